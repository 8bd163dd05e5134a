"""Downsampling of a stream and of the context that it carries, each by a convolution of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, register


@register(
    "carried_overlap",
    Kind.DOWNSAMPLE,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087; official models/overlock.py CTXDownsample",
    settings={
        "carried": Setting(
            (4, 64),
            lambda v, place: 0 < 2 * int(v) < place.width,
            "the carried channels are less than half of those that come out",
        ),
    },
)
class CarriedOverlap(nn.Module):
    """[BN(conv x), BN(conv c)], c the `carried` last channels, whose number stays; 3x3 convolutions of stride 2, no bias."""

    def __init__(self, in_width: int, width: int, *, carried: int) -> None:
        super().__init__()
        if carried >= in_width:
            raise ValueError(f"a context of {carried} channels leaves nothing of {in_width}: carry less")
        self.carried = carried
        self.conv = nn.Conv2d(in_width - carried, width - carried, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width - carried)
        self.carried_conv = nn.Conv2d(carried, carried, 3, 2, padding=1, bias=False)
        self.carried_norm = nn.BatchNorm2d(carried)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, H/2, W/2, width), odd sizes rounded up."""
        own, context = x.permute(0, 3, 1, 2).split((x.shape[-1] - self.carried, self.carried), dim=1)
        parts = self.norm(self.conv(own)), self.carried_norm(self.carried_conv(context))
        return torch.cat(parts, dim=1).permute(0, 2, 3, 1)


def reference(module: CarriedOverlap, x: Tensor) -> Tensor:
    """Tap by tap."""
    own = x.shape[-1] - module.carried
    first = naive.batch_norm(module.norm, naive.conv2d(module.conv, x[..., :own]))
    return torch.cat((first, naive.batch_norm(module.carried_norm, naive.conv2d(module.carried_conv, x[..., own:]))), dim=-1)
