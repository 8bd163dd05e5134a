"""The residual with a learned scale on the stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, flag, register


@register(
    "residual_scale",
    Kind.RESIDUAL,
    cite="Shleifer et al. 2021 (NormFormer), arXiv:2110.09456, section 3.2; Yu et al. 2022 (MetaFormer), arXiv:2210.13452, "
    "official metaformer_baselines.py MetaFormerBlock; shifted: Lou et al. 2025 (A2Mamba), arXiv:2507.16624, official "
    "a2mamba.py LayerScale",
    settings={"scaled": flag(False), "shifted": flag(False)},
)
class ResidualScale(Residual):
    """stream * x + op(norm(x)), with layer scale on the branch too where `scaled`; all scales begin at 1.

    `shifted` adds a learned shift, which begins at 0.
    """

    def __init__(self, norm: nn.Module, op: nn.Module, width: int, *, scaled: bool = False, shifted: bool = False) -> None:
        super().__init__(norm, op)
        self.stream = nn.Parameter(torch.ones(width))
        self.scale = nn.Parameter(torch.ones(width)) if scaled else None
        self.shift = nn.Parameter(torch.zeros(width)) if shifted else None

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> (B, H, W, C)."""
        joined = self.stream * x + (y if self.scale is None else self.scale * y)
        return joined if self.shift is None else joined + self.shift


def reference(module: ResidualScale, x: Tensor) -> Tensor:
    """Channel by channel."""
    y = module.op(module.norm(x))
    channels = []
    for c in range(x.shape[3]):
        branch = y[..., c] if module.scale is None else module.scale[c] * y[..., c]
        shift = 0 if module.shift is None else module.shift[c]
        channels.append(module.stream[c] * x[..., c] + branch + shift)
    return torch.stack(channels, dim=-1)
