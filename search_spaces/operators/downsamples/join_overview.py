"""A stage whose stream takes up the overview as its last channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.registry import Kind, register


@register(
    "join_overview",
    Kind.DOWNSAMPLE,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087, section 3.2; official models/overlock.py OverLoCK.forward_sub_features",
    side="overview",
    out_map=lambda height, width, settings: (height, width),
)
class JoinOverview(nn.Module):
    """[x, overview]; without an overview the channels behind x are zero. The map stays.

    The first of OverLoCK's focus stages; later ones downsample with `carried_overlap`.
    """

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.missing = width - in_width

    def forward(self, x: Tensor, overview: Tensor | None = None) -> Tensor:
        """(B, H, W, in_width), and the overview (B, H, W, width - in_width) -> (B, H, W, width)."""
        return F.pad(x, (0, self.missing)) if overview is None else torch.cat((x, overview), dim=-1)


def reference(module: JoinOverview, x: Tensor, overview: Tensor | None = None) -> Tensor:
    """Channel by channel."""
    channels = list(x.unbind(-1))
    nothing = [torch.zeros_like(channels[0])] * max(module.missing, 0)
    kept = channels[: len(channels) + min(module.missing, 0)]
    return torch.stack([*kept, *(nothing if overview is None else overview.unbind(-1))], dim=-1)
