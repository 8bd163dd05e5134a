"""The head that widens the map before it averages it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import ACTIVATIONS, naive_activation
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register


@register(
    "projected_pool",
    Kind.HEAD,
    cite="Fan et al. 2024 (RMT), arXiv:2309.11523, official RMT.py VisRetNet.forward_features; Howard et al. 2019 "
    "(MobileNetV3), arXiv:1905.02244, section 5.1",
    settings={
        "hidden": Setting((512, 1024), lambda v, place: int(v) >= 8, "the hidden layer has at least 8 channels"),
        "activation": one_of("silu", "gelu", "relu", "hardswish", default="silu"),
        "bias": flag(True),
    },
)
class ProjectedPoolHead(nn.Module):
    """linear(mean over positions of act(norm(project(x)))), `hidden` channels between the two linear maps.

    RMT, PPMA, A2Mamba and (without `bias`) OverLoCK have 1024 hidden channels, a batch norm and SiLU.
    """

    def __init__(
        self,
        norm: Callable[[int], nn.Module],
        width: int,
        size: int,
        num_classes: int,
        *,
        hidden: int,
        activation: str = "silu",
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.project, self.norm = nn.Linear(width, hidden, bias=bias), norm(hidden)
        self.act, self.linear = ACTIVATIONS[activation](), nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        return self.linear(self.act(self.norm(self.project(x))).mean((1, 2)))


def reference(module: ProjectedPoolHead, x: Tensor) -> Tensor:
    """The sum over the positions, divided by their number."""
    y = naive_activation(module.act, module.norm(naive.linear(module.project, x))).flatten(1, 2)
    return naive.linear(module.linear, torch.stack(y.unbind(1)).sum(0) / y.shape[1])
