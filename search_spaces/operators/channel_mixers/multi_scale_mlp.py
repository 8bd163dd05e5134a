"""The perceptron whose hidden layer is convolved depth-wise with kernels of four sizes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION, batch_normed
from nas.search_spaces.registry import Kind, register

KERNELS = (1, 3, 5, 7)
SPREADS = (2, 1, 1, 1)
"""Dilations. That of a single tap has no effect on the result; on a CPU torch runs an undilated one channel by channel."""


@register(
    "multi_scale_mlp",
    Kind.CHANNEL_MIXER,
    cite="Lou et al. 2023 (TransXNet), arXiv:2310.19380, MS-FFN; official transxnet.py Mlp and MultiScaleDWConv",
    settings={"expansion": EXPANSION},
)
class MultiScaleMLP(nn.Module):
    """BN(W2 BN(gelu(DW(h) + h))) with h = BN(gelu(W1 x)); DW has kernel 1, 3, 5, 7 on a quarter of the channels each.

    W1 and W2 have no bias. The four quarters are layers of their own, so that a slice of each keeps its kernel: the outputs of
    W2 are added instead of their inputs put side by side, which is the same. The first quarter takes what does not divide.
    With hidden width E = expansion * C, a multiple of 4: parameters 2 C E + 21 E + E + 4 E + 2 C, MACs H W (2 C E + 21 E).
    """

    def __init__(self, width: int, size: int, *, expansion: int) -> None:
        super().__init__()
        parts = quarters(expansion * width)
        self.expand = nn.ModuleList(nn.Linear(width, part, bias=False) for part in parts)
        self.expand_norm = nn.ModuleList(nn.BatchNorm2d(part) for part in parts)
        self.conv = nn.ModuleList(
            nn.Conv2d(part, part, kernel, padding=kernel // 2, dilation=spread, groups=part)
            for part, kernel, spread in zip(parts, KERNELS, SPREADS, strict=True)
        )
        self.conv_norm = nn.ModuleList(nn.BatchNorm2d(part) for part in parts)
        self.reduce = nn.ModuleList(nn.Linear(part, width, bias=False) for part in parts)
        self.reduce_norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        out = self._scale(0, x)
        for scale in range(1, 4):
            out.add_(self._scale(scale, x))
        return batch_normed(self.reduce_norm, out)

    def _scale(self, scale: int, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), what one kernel size adds."""
        hidden = self.expand_norm[scale](F.gelu(self.expand[scale](x).permute(0, 3, 1, 2)))
        hidden = self.conv_norm[scale](F.gelu(hidden + self.conv[scale](hidden)))
        out: Tensor = self.reduce[scale](hidden.permute(0, 2, 3, 1))
        return out


def quarters(hidden: int) -> tuple[int, int, int, int]:
    """How many channels each kernel size gets."""
    return hidden - hidden // 4 * 3, hidden // 4, hidden // 4, hidden // 4


def reference(module: MultiScaleMLP, x: Tensor) -> Tensor:
    """Scale by scale, layer by layer, each tap by tap."""
    out = x.new_zeros(())
    for expand, first, conv, second, reduce in zip(
        module.expand, module.expand_norm, module.conv, module.conv_norm, module.reduce, strict=True
    ):
        assert isinstance(expand, nn.Linear)
        assert isinstance(first, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(second, nn.BatchNorm2d)
        assert isinstance(reduce, nn.Linear)
        hidden = naive.batch_norm(first, naive.gelu(naive.linear(expand, x)))
        hidden = naive.batch_norm(second, naive.gelu(naive.conv2d(conv, hidden) + hidden))
        out = out + naive.linear(reduce, hidden)
    return naive.batch_norm(module.reduce_norm, out)


def macs(width: int, size: int, *, expansion: int) -> int:
    """Multiply-adds on a size x size map: H W (2 C E + sum over the quarters of channels * kernel^2)."""
    hidden = expansion * width
    taps = sum(part * kernel**2 for part, kernel in zip(quarters(hidden), KERNELS, strict=True))
    return size**2 * (2 * width * hidden + taps)
