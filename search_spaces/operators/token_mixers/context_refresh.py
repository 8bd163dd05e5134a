"""The context that is carried beside the stream, mixed with the overview that it comes from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.carried import CARRIED
from nas.search_spaces.registry import Group, Kind, register


@register(
    "context_refresh",
    Kind.TOKEN_MIXER,
    group=Group.POOLING,
    cite="Lou and Yu 2025 (OverLoCK), arXiv:2502.20087, section 3.2; official models/overlock.py DynamicConvBlock, x_scale and "
    "h_scale",
    side="overview",
    settings={"carried": CARRIED},
)
class ContextRefresh(nn.Module):
    """[x, c] -> [x, a c + b + a' o + b'], c the `carried` last channels and o the overview's map, or c itself without one.

    The block before each of OverLoCK's focus net but the first, with residual and norm `none`. Scales begin at 1, shifts at 0;
    there are two shifts because the official code has two. 4 `carried` parameters, no MACs.
    """

    def __init__(self, width: int, size: int, *, carried: int) -> None:
        super().__init__()
        self.carried = carried
        self.scale, self.overview_scale = nn.Parameter(torch.ones(carried)), nn.Parameter(torch.ones(carried))
        self.shift, self.overview_shift = nn.Parameter(torch.zeros(carried)), nn.Parameter(torch.zeros(carried))

    def forward(self, x: Tensor, overview: Tensor | None = None) -> Tensor:
        """(B, H, W, C), and the overview (B, H, W, carried) -> (B, H, W, C)."""
        own, context = x.split((x.shape[-1] - self.carried, self.carried), dim=-1)
        told = context if overview is None else overview
        context = torch.addcmul(self.shift + self.overview_shift, context, self.scale)
        return torch.cat((own, torch.addcmul(context, told, self.overview_scale)), dim=-1)


def reference(module: ContextRefresh, x: Tensor, overview: Tensor | None = None) -> Tensor:
    """Channel by channel."""
    channels = list(x.unbind(-1))
    first = len(channels) - module.carried
    for c in range(module.carried):
        told = channels[first + c] if overview is None else overview[..., c]
        mine = module.scale[c] * channels[first + c] + module.shift[c]
        channels[first + c] = mine + (module.overview_scale[c] * told + module.overview_shift[c])
    return torch.stack(channels, dim=-1)


def macs(width: int, size: int, *, carried: int) -> int:
    """None."""
    return 0
