"""The dense residual: stream and branch side by side, brought back to the width by a linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.search_spaces.layers import Residual
from nas.search_spaces.registry import Kind, register


@register(
    "dense",
    Kind.RESIDUAL,
    cite="Hsu et al. 2024 (DRCT), arXiv:2404.00722, section 3.3; Huang et al. 2017 (DenseNet), arXiv:1608.06993, eq. 2",
)
class Dense(Residual):
    """linear([x, op(norm(x))]): dense connections with the transition after every operator, so that the width stays.

    DRCT concatenates the outputs of a whole group before it narrows them; here each node narrows its own. The linear map
    begins as the sum of stream and branch.
    """

    def __init__(self, norm: nn.Module, op: nn.Module, width: int) -> None:
        super().__init__(norm, op)
        self.stream, self.branch = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        for part in (self.stream, self.branch):
            nn.init.eye_(part.weight)
        nn.init.zeros_(self.stream.bias)

    def join(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W, C) twice -> (B, H, W, C)."""
        return self.stream(x) + self.branch(y)


def reference(module: Dense, x: Tensor) -> Tensor:
    """One linear map of the concatenation."""
    both = torch.cat((x, module.op(module.norm(x))), dim=-1)
    weight = torch.cat((module.stream.weight, module.branch.weight), dim=1)
    return torch.stack([(both * row).sum(-1) for row in weight], dim=-1) + module.stream.bias
