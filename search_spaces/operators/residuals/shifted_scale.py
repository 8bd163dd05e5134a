"""The residual with one learned scale and one learned shift a channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.layers import SCALE, Residual
from nas.search_spaces.operators.residuals.layer_scale import INIT
from nas.search_spaces.registry import Kind, register


@register(
    "shifted_scale",
    Kind.RESIDUAL,
    cite="Lou et al. 2023 (TransXNet), arXiv:2310.19380, official transxnet.py LayerScale and Block",
    settings={"init": INIT},
)
class ShiftedScale(Residual):
    """x + scale * op(norm(x)) + shift; scales begin at `init`, shifts at 0."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int, *, init: float = SCALE) -> None:
        super().__init__(norm, op)
        self.scale, self.shift = nn.Parameter(torch.full((width,), init)), nn.Parameter(torch.zeros(width))

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> (B, H, W, C)."""
        return torch.addcmul(x + self.shift, self.scale, y)


def reference(module: ShiftedScale, x: Tensor) -> Tensor:
    """Channel by channel."""
    y = module.op(module.norm(x))
    channels = [x[..., c] + module.scale[c] * y[..., c] + module.shift[c] for c in range(x.shape[3])]
    return torch.stack(channels, dim=-1)
