"""Context-mixing convolution: each position's kernels come from its affinity with the cells of a coarse context map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.squeeze import SqueezeExcite, squeeze_macs, squeeze_reference
from nas.search_spaces.operators.token_mixers import large_kernel_conv
from nas.search_spaces.operators.token_mixers.context_kernels import ContextKernels, kernels_macs, kernels_reference
from nas.search_spaces.operators.token_mixers.dynamic_conv import pool_naively
from nas.search_spaces.operators.token_mixers.large_kernel_conv import LargeKernelConv
from nas.search_spaces.operators.token_mixers.mixer_mlp import resample, resample_naively
from nas.search_spaces.registry import Group, Kind, Setting, flag, register

KERNELS = (3, *large_kernel_conv.BRANCHES)
KERNEL = Setting(
    (3, 7, 13),
    rule=lambda v, place: int(v) in KERNELS and int(v) <= place.size,
    because="a kernel is odd, from 3 to 19, and not larger than the map",
)
SMALL = Setting(
    (3, 5),
    rule=lambda v, place: int(v) % 2 == 1 and 3 <= int(v) <= int(place.chosen["kernel"]),
    because="the small kernel is odd, at least 3, and not larger than the large one",
)


class ContextMixing(nn.Module):
    """The layers of context mixing, for values, queries and a context that may come from different maps."""

    def __init__(
        self,
        width: int,
        size: int,
        *,
        heads: int,
        kernel: int,
        small: int,
        grid: int = 7,
        value: bool = False,
        merged: bool = False,
    ) -> None:
        super().__init__()
        half = width // 2
        self.heads, self.kernel, self.grid, self.share = heads, kernel, grid, (width // heads) ** -0.5
        self.query, self.key = nn.Linear(width, half, bias=False), nn.Linear(width, half, bias=False)
        self.query_norm, self.key_norm = nn.BatchNorm2d(half), nn.BatchNorm2d(half)
        self.value = nn.Linear(width, width, bias=False) if value else None
        self.value_norm = nn.BatchNorm2d(width) if value else None
        self.near, self.far = (ContextKernels(size, heads, k, grid**2) for k in (small, kernel))
        self.fuse, self.fuse_norm = nn.Linear(width, width, bias=False), nn.BatchNorm2d(width)
        self.lepe = LargeKernelConv(width, size, kernel=max(kernel, 5), merged=merged)
        self.lepe_norm = nn.BatchNorm2d(width)
        self.squeeze = SqueezeExcite(width, max(16, width // 8), act="gelu")
        self.gate, self.gate_norm = nn.Linear(width, width, bias=False), nn.BatchNorm2d(width)
        self.norm, self.out = nn.BatchNorm2d(width), nn.Linear(width, width)

    def mixed(self, x: Tensor, asking: Tensor, context: Tensor) -> Tensor:
        """The output for values, gate and lepe of x, queries of `asking`, which the kernel fits on, and keys of `context`."""
        mixed = self._under_kernels(resample(x, asking.shape[1], asking.shape[2]), asking, context)
        if mixed.shape != x.shape:
            mixed = F.adaptive_avg_pool2d(mixed.permute(0, 3, 1, 2), (x.shape[1], x.shape[2])).permute(0, 2, 3, 1)
        y = normed(self.fuse_norm, self.fuse(mixed)) + normed(self.lepe_norm, self.lepe(x))
        y = F.silu(normed(self.gate_norm, self.gate(x))) * self.squeeze(y)
        z: Tensor = self.out(normed(self.norm, y))
        return z

    def _under_kernels(self, x: Tensor, asking: Tensor, context: Tensor) -> Tensor:
        """The values of x under the kernels of each position: (B, H, W, C)."""
        pooled = F.adaptive_avg_pool2d(context.permute(0, 3, 1, 2), self.grid).permute(0, 2, 3, 1)
        query = normed(self.query_norm, self.query(asking)) * self.share
        key = normed(self.key_norm, self.key(pooled))
        query, key = (part.flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key))
        affinity = query @ key.transpose(-2, -1)
        if self.value is not None and self.value_norm is not None:
            x = normed(self.value_norm, self.value(x))
        first, second = x.chunk(2, dim=-1)
        return torch.cat((self.near(affinity, first), self.far(affinity, second)), dim=-1)


@register(
    "context_mixing_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite=(
        "Lou and Yu 2025 (OverLoCK, ContMix), arXiv:2502.20087, section 3.3; official models/overlock.py DynamicConvBlock, "
        "models/contmix.py ContMixBlock"
    ),
    side="context",
    settings={
        "heads": Setting(
            (2, 4, 8),
            rule=lambda v, place: int(v) >= 1 and place.width % (2 * int(v)) == 0,
            because="heads divide half the channels",
        ),
        "kernel": KERNEL,
        "small": SMALL,
        "grid": Setting(
            (5, 7), rule=lambda v, place: 1 <= int(v) <= 32, because="the context has 1 to 32 cells a side", default=7
        ),
        "value": flag(False),
        "merged": flag(False),
    },
)
class ContextMixingConv(ContextMixing):
    """out(norm(gate * S(fuse(k * v) + lepe(x)))), k = the kernels of each position, S squeeze and excitation.

    A position's query meets the grid x grid keys that the pooled context gives; `ContextKernels` makes kernels of the
    affinities, small ones for the first half of the channels and large ones for the second, and applies them. The context is x
    itself, or what an overview branch gives as a second argument. v is x, as in OverLoCK, or with `value` projected first, as
    in the stand-alone block of contmix.py. lepe is a `large_kernel_conv` of at least 5x5, which `merged` makes one convolution,
    with one more batch norm; gate = SiLU(linear). A map with a side shorter than the kernel is enlarged for the mixing until it
    fits, and the result averaged back. All linear layers but `out` are without bias, with batch norm.

    Here the context has the width of x; OverLoCK carries one of another width beside x, which is `carried_context_conv`. Norms,
    skips and the MLP of the official blocks are a block's own here. With N = H W, G = grid^2, K = max(kernel, 5), MACs in
    evaluation: those of the kernels (`kernels_macs`) + N (3.5 C^2 + K^2 C + G C / 2) + G C^2 / 2 + 2 C max(16, C // 8), and
    N C^2 with `value`.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), with a context (B, h, w, C) or x itself as context."""
        asking = resample(x, *fitting(x.shape[1], x.shape[2], self.kernel))
        return self.mixed(x, asking, asking if context is None else context)


def normed(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """The batch norm of a map (B, H, W, C)."""
    y: Tensor = norm(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def fitting(height: int, width: int, kernel: int) -> tuple[int, int]:
    """The size of a map, enlarged where its shorter side is less than the kernel."""
    if min(height, width) >= kernel:
        return height, width
    return (kernel, kernel * width // height) if height < width else (kernel * height // width, kernel)


def macs(
    width: int,
    size: int,
    *,
    heads: int,
    kernel: int,
    small: int,
    grid: int = 7,
    value: bool = False,
    merged: bool = False,
) -> int:
    """Multiply-adds on a size x size map in evaluation."""
    half, cells = width // 2, grid**2
    linear = size**2 * width * (half + (3 + int(value)) * width) + cells * width * half
    lepe = large_kernel_conv.macs(width, size, kernel=max(kernel, 5), merged=merged)
    kernels = sum(kernels_macs(half, size, heads, k, cells) for k in (small, kernel))
    return linear + size**2 * half * cells + kernels + lepe + squeeze_macs(width, max(16, width // 8))


def reference(module: ContextMixingConv, x: Tensor, context: Tensor | None = None) -> Tensor:
    """Step by step, the kernels position by position."""
    large = enlarged_naively(x, module.kernel)
    return mixed_reference(module, x, large, large if context is None else context)


def enlarged_naively(x: Tensor, kernel: int) -> Tensor:
    """A map that the kernel fits on."""
    return resample_naively(x, *fitting(x.shape[1], x.shape[2], kernel)) if min(x.shape[1:3]) < kernel else x


def mixed_reference(module: ContextMixing, x: Tensor, asking: Tensor, context: Tensor) -> Tensor:
    """The output for values, gate and lepe of x, queries of `asking`, keys of `context`."""
    large, small = enlarged_naively(x, module.kernel), min(x.shape[1:3]) < module.kernel
    pooled = pool_naively(context, module.grid, module.grid)
    query = naive.batch_norm(module.query_norm, naive.linear(module.query, asking)) / (x.shape[-1] // module.heads) ** 0.5
    key = naive.batch_norm(module.key_norm, naive.linear(module.key, pooled)).flatten(1, 2)
    value = large
    if module.value is not None and module.value_norm is not None:
        value = naive.batch_norm(module.value_norm, naive.linear(module.value, large))
    half = x.shape[-1] // 2
    mixed = torch.cat(
        (
            kernels_reference(module.near, query, key, value[..., :half]),
            kernels_reference(module.far, query, key, value[..., half:]),
        ),
        dim=-1,
    )
    mixed = pool_naively(mixed, x.shape[1], x.shape[2]) if small else mixed
    lepe = naive.batch_norm(module.lepe_norm, large_kernel_conv.reference(module.lepe, x))
    y = squeeze_reference(module.squeeze, naive.batch_norm(module.fuse_norm, naive.linear(module.fuse, mixed)) + lepe)
    gate = naive.batch_norm(module.gate_norm, naive.linear(module.gate, x))
    y = gate / (1 + (-gate).exp()) * y
    return naive.linear(module.out, naive.batch_norm(module.norm, y))
