"""The residual with one learned scale a channel, the default."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.layers import SCALE, Residual
from nas.search_spaces.registry import Kind, Setting, register

INIT = Setting((0.1, 1e-6, 1e-5, 1.0), lambda v, place: 0 < float(v) <= 1, "a scale begins above 0 and at most at 1", SCALE)


@register(
    "layer_scale",
    Kind.RESIDUAL,
    cite="Touvron et al. 2021 (CaiT), arXiv:2103.17239, eq. 4",
    settings={"init": INIT},
)
class LayerScale(Residual):
    """x + scale * op(norm(x)) with one scale a channel, which begins at `init`."""

    def __init__(self, norm: nn.Module, op: nn.Module, width: int, *, init: float = SCALE) -> None:
        super().__init__(norm, op)
        self.scale = nn.Parameter(torch.full((width,), init))

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> (B, H, W, C)."""
        return x + self.scale * y


def reference(module: LayerScale, x: Tensor) -> Tensor:
    """Channel by channel."""
    y = module.op(module.norm(x))
    return torch.stack([x[..., c] + module.scale[c] * y[..., c] for c in range(x.shape[3])], dim=-1)
