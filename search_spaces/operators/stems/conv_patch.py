"""Convolutions at half the resolution, then patches of their map."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.stems import parts
from nas.search_spaces.registry import Kind, Setting, flag, register


@register(
    "conv_patch",
    Kind.STEM,
    cite="Yuan et al. 2021 (VOLO), arXiv:2106.13112, section 3.3, volo.py PatchEmbed; skip: Liao et al. 2021 (ViT-ResNAS), "
    "arXiv:2109.00642, official patch_conv.py PatchConvEmbed; one convolution: Lin et al. 2023 (SMT), "
    "arXiv:2307.08579, smt.py Head; overlap: Patro et al. 2023 (SpectFormer), arXiv:2304.06446, hierarchical "
    "spectformer.py Stem",
    settings={
        "stride": Setting(
            (2, 4), rule=lambda v, place: v in (2, 4, 8, 14, 16), because="a stem divides the map by 2, 4, 8, 14 or 16"
        ),
        "inner": Setting((64, 24), rule=lambda v, place: 8 <= int(v) <= 512, because="inner is 8 to 512 channels", default=64),
        "kernel": Setting((7, 3), rule=lambda v, place: v in (3, 5, 7), because="the first kernel is 3, 5 or 7", default=7),
        "skip": flag(False),
        "convs": Setting(
            (3, 1),
            rule=lambda v, place: v == 3 or (v == 1 and not place.chosen["skip"]),
            because="there are three convolutions, or one where nothing skips the others",
            default=3,
        ),
        "overlap": flag(False),
    },
)
class ConvPatch(nn.Module):
    """kernel x kernel convolution of stride 2 and two 3x3 ones to `inner` channels, then s x s patches to C, s = stride / 2.

    The first three have batch norm, ReLU and no bias, the last has a bias. Defaults: VOLO (stride 8). ViT-ResNAS has stride 14,
    24 channels, kernel 3, and `skip`, which adds the first one's result to the third one's. SMT has stride 4 and only the
    first of the three (`convs`), of kernel 3. With `overlap` the patches have sides of 2 s - 1 (at least 3) around the middle
    of their first pixels: 3x3 at stride 4 in SpectFormer and SVT.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int,
        inner: int = 64,
        kernel: int = 7,
        skip: bool = False,
        convs: int = 3,
        overlap: bool = False,
    ) -> None:
        super().__init__()
        self.skip = skip
        first = parts.convolutions([in_channels, inner], [2], kernel=kernel)
        self.convs = nn.ModuleList([*first, *parts.convolutions([inner] * convs, [1] * (convs - 1))])
        self.norms = parts.batch_norms([inner] * convs)
        self.act = nn.ReLU(inplace=True)  # no one else reads what a batch norm gives
        step = stride // 2
        side = max(3, 2 * step - 1) if overlap else step
        self.patch = nn.Conv2d(inner, width, side, step, padding=side // 2 if overlap else 0)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H/stride, W/stride, width)."""
        steps = list(zip(self.convs, self.norms, strict=True))
        maps = half = cast(Tensor, self.act(steps[0][1](steps[0][0](image))))
        for conv, norm in steps[1:]:
            maps = self.act(norm(conv(maps)))
        out: Tensor = self.patch(maps + half if self.skip else maps).permute(0, 2, 3, 1)
        return out


def reference(module: ConvPatch, image: Tensor) -> Tensor:
    """Layer by layer, each tap by tap."""
    x, first = image.permute(0, 2, 3, 1), None
    for conv, norm in zip(module.convs, module.norms, strict=True):
        assert isinstance(conv, nn.Conv2d)
        x = parts.naive_norm(norm, naive.conv2d(conv, x)).clamp(min=0)
        first = x if first is None else first
    return naive.conv2d(module.patch, x + first if module.skip and first is not None else x)
