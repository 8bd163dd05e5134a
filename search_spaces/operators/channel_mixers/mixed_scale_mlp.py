"""The perceptron of DRSformer: two streams of depth-wise 3x3 and 5x5 convolutions that exchange halves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.channel_mixers.mlp import EXPANSION, hidden_setting
from nas.search_spaces.registry import Kind, register

KERNELS = (3, 5)


@register(
    "mixed_scale_mlp",
    Kind.CHANNEL_MIXER,
    cite="Chen et al. 2023 (DRSformer), arXiv:2303.11950, section 3.3; official DRSformer_arch.py FeedForward",
    settings={"expansion": EXPANSION, "hidden": hidden_setting(42, 85, 127)},
)
class MixedScaleMLP(nn.Module):
    """sum over i of W2_i relu(M_i [relu(DW3_i h_i), relu(DW5_i h_i)]), with h_1 and h_2 = W1_i x, each of E channels.

    M_1 is a 3x3 and M_2 a 5x5 convolution from 2 E to E channels in E groups: each output reads two neighbouring channels of
    [3x3 results, 5x5 results]. Nothing has a bias, as in the official code's default; its layers for both streams in one are
    layers of their own here, so that slices do not mix them. Its expansion of 2.66 is `expansion` 2 with `hidden`
    int(2.66 * C). Parameters 4 C E + 136 E, MACs H W (4 C E + 136 E).
    """

    def __init__(self, width: int, size: int, *, expansion: int, hidden: int = 0) -> None:
        super().__init__()
        hidden = hidden or expansion * width
        self.expand = nn.ModuleList(nn.Linear(width, hidden, bias=False) for _ in KERNELS)
        self.small = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False) for _ in KERNELS)
        self.large = nn.ModuleList(nn.Conv2d(hidden, hidden, 5, padding=2, groups=hidden, bias=False) for _ in KERNELS)
        self.merge = nn.ModuleList(
            nn.Conv2d(2 * hidden, hidden, kernel, padding=kernel // 2, groups=hidden, bias=False) for kernel in KERNELS
        )
        self.reduce = nn.ModuleList(nn.Linear(hidden, width, bias=False) for _ in KERNELS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return self._stream(0, x) + self._stream(1, x)

    def _stream(self, stream: int, x: Tensor) -> Tensor:
        hidden = self.expand[stream](x).permute(0, 3, 1, 2)
        both = torch.cat((self.small[stream](hidden), self.large[stream](hidden)), dim=1).relu()
        out: Tensor = self.reduce[stream](self.merge[stream](both).relu().permute(0, 2, 3, 1))
        return out


def reference(module: MixedScaleMLP, x: Tensor) -> Tensor:
    """Stream by stream, each convolution tap by tap."""
    out = x.new_zeros(())
    for expand, small, large, merge, reduce in zip(
        module.expand, module.small, module.large, module.merge, module.reduce, strict=True
    ):
        assert isinstance(expand, nn.Linear)
        assert isinstance(small, nn.Conv2d)
        assert isinstance(large, nn.Conv2d)
        assert isinstance(merge, nn.Conv2d)
        assert isinstance(reduce, nn.Linear)
        hidden = naive.linear(expand, x)
        both = [torch.where(part > 0, part, 0.0) for part in (naive.conv2d(small, hidden), naive.conv2d(large, hidden))]
        merged = naive.conv2d(merge, torch.cat(both, dim=-1))
        out = out + naive.linear(reduce, torch.where(merged > 0, merged, 0.0))
    return out


def macs(width: int, size: int, *, expansion: int, hidden: int = 0) -> int:
    """Multiply-adds on a size x size map: H W (4 C E + 136 E)."""
    return size**2 * (hidden or expansion * width) * (4 * width + 136)
