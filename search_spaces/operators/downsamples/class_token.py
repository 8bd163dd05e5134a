"""A class token put in front of the map, which becomes a row of tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.registry import Kind, flag, register


@register(
    "class_token",
    Kind.DOWNSAMPLE,
    cite="Dosovitskiy et al. 2021 (ViT), arXiv:2010.11929, eq. 1; d'Ascoli et al. 2021 (ConViT), arXiv:2103.10697, official "
    "convit.py VisionTransformer.forward_features",
    settings={"positions": flag(False)},
    out_map=lambda height, width, settings: (1, height * width + 1),
    sized=True,
)
class ClassToken(nn.Module):
    """[token, x row by row] as a map of height 1; a linear map first where the width changes.

    With `positions` a learned vector is added to each token, resized bilinearly on maps of another size.
    """

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, in_width: int, width: int, size: int, *, positions: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(in_width, width) if in_width != width else None
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.table = nn.Parameter(torch.randn(size, size, width) * 0.02) if positions else None
        self.token_position = nn.Parameter(torch.randn(width) * 0.02) if positions else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, in_width) -> (B, 1, H W + 1, width)."""
        y, token = x if self.linear is None else self.linear(x), self.token.view(1, -1)
        if self.table is not None and self.token_position is not None:
            y, token = y + fitted(self.table, y.shape[1], y.shape[2]), token + self.token_position
        return torch.cat((token.expand(y.shape[0], 1, -1), y.flatten(1, 2)), dim=1)[:, None]


def reference(module: ClassToken, x: Tensor) -> Tensor:
    """Token by token."""
    y = x if module.linear is None else naive.linear(module.linear, x)
    first = module.token + 0
    rows = columns = torch.zeros(0)
    if module.table is not None and module.token_position is not None:
        first = first + module.token_position
        rows, columns = (stretch(n, m).to(x) for n, m in zip(module.table.shape[:2], x.shape[1:3], strict=True))
    tokens = [first.repeat(x.shape[0], 1)]
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            position = 0 if module.table is None else torch.einsum("h,w,hwc->c", rows[i], columns[j], module.table)
            tokens.append(y[:, i, j] + position)
    return torch.stack(tokens, dim=1)[:, None]
