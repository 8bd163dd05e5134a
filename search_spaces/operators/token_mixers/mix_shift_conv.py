"""Mix-shift: groups of channels moved by different distances, each convolved with a kernel of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.convolution import expansions, ladder, reaches
from nas.search_spaces.operators.tail import Tail, tail_macs, tail_reference
from nas.search_spaces.registry import Group, Kind, Place, Setting, Value, register


def _fits(value: Value, place: Place) -> bool:
    sizes = ladder(value)
    if len(sizes) % 2 == 0 or len(chunk_widths(place.width, len(sizes))) != len(sizes):
        return False
    return len(sizes) // 2 < place.size and all(reaches(kernel, 1, place) for kernel in sizes)


@register(
    "mix_shift_conv",
    Kind.TOKEN_MIXER,
    group=Group.CONVOLUTION,
    cite="Zheng et al. 2022 (MS-MLP), arXiv:2202.06510; official JegZheng/MS-MLP ms_mlp.py MixShiftBlock",
    settings={
        "kernels": Setting(
            ("1-1-3", "1-3-5", "1-1-3-5-7", "1-3-3-5-7", "1-5-5-5-7", "1-7-7-7-7"),
            rule=_fits,
            because=(
                "it lists an odd number of odd kernels, one a non-empty group of channels, whose outermost taps reach a pixel "
                "(kernel // 2 < map size), and the largest shift, half their number, is less than the map"
            ),
        ),
        "expansion": expansions(0, 2, 3, 4, default=0),
    },
)
class MixShiftConv(nn.Module):
    """The groups side by side, group g being DW(x moved by d_g to the right) + DW'(x moved by d_g down), kernels k_g x k_g.

    Of n groups, group g moves by d_g = g - n // 2; what leaves the map on one side comes back on the other, as in the code,
    before kernels that pad with zeros. Kernels are listed by group: in the official configurations they grow with the signed
    distance, not with its size. Groups have ceil(C / n) channels, the last what is
    left. With `expansion` a layer norm and an MLP follow, as in the published block, which needs no norm before and no channel
    mixer after it. MACs N (2 sum_g C_g k_g^2 + 2 e C^2) with e the expansion.
    """

    def __init__(self, width: int, size: int, *, kernels: str, expansion: int = 0) -> None:
        super().__init__()
        every = [int(kernel) for kernel in kernels.split("-")]
        self.widths = chunk_widths(width, len(every))
        pairs = list(zip(self.widths, every, strict=True))
        self.right = nn.ModuleList(nn.Conv2d(part, part, k, padding=k // 2, groups=part) for part, k in pairs)
        self.down = nn.ModuleList(nn.Conv2d(part, part, k, padding=k // 2, groups=part) for part, k in pairs)
        self.tail = Tail(width, expansion) if expansion else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        mixed = []
        for group, part in enumerate(x.split(self.widths, dim=-1)):
            shift = group - len(self.widths) // 2
            right, down = (torch.roll(part, shift, dim) if shift else part for dim in (2, 1))
            mixed.append(self.right[group](right.permute(0, 3, 1, 2)) + self.down[group](down.permute(0, 3, 1, 2)))
        y: Tensor = self.tail(torch.cat(mixed, dim=1).permute(0, 2, 3, 1))
        return y


def chunk_widths(width: int, groups: int) -> list[int]:
    """Channels of each group, as torch.chunk cuts them: fewer groups where that leaves none for the last."""
    if groups == 0:
        return []
    step = -(-width // groups)
    return [min(step, width - start) for start in range(0, width, step)]


def reference(module: MixShiftConv, x: Tensor) -> Tensor:
    """Group by group: pixels picked one by one, then tap by tap."""
    _, height, width, _ = x.shape
    parts, start, middle = [], 0, len(module.right) // 2
    for group, (right, down) in enumerate(zip(module.right, module.down, strict=True)):
        assert isinstance(right, nn.Conv2d)
        assert isinstance(down, nn.Conv2d)
        part, shift = x[..., start : start + right.in_channels], group - middle
        across = torch.stack([part[:, :, (j - shift) % width] for j in range(width)], dim=2)
        along = torch.stack([part[:, (i - shift) % height] for i in range(height)], dim=1)
        parts.append(naive.conv2d(right, across) + naive.conv2d(down, along))
        start += right.in_channels
    y = torch.cat(parts, dim=-1)
    return tail_reference(module.tail, y) if isinstance(module.tail, Tail) else y


def macs(width: int, size: int, *, kernels: str, expansion: int = 0) -> int:
    """Multiply-adds for one image."""
    sizes = ladder(kernels)
    mixing = sum(2 * part * k**2 for part, k in zip(chunk_widths(width, len(sizes)), sizes, strict=True))
    return size**2 * mixing + tail_macs(width, size, expansion)
