"""The head with a hidden layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register

EXPANSION = Setting((2, 4), lambda v, place: isinstance(v, int) and 1 <= v <= 8, "the hidden layer is 1 to 8 times as wide", 4)


@register(
    "mlp_head",
    Kind.HEAD,
    cite="Yu et al. 2022 (MetaFormer baselines), arXiv:2210.13452, official metaformer_baselines.py MlpHead; GELU: Yu and Wang "
    "2024 (MambaOut), arXiv:2405.07992; without a norm before it: InceptionNeXt, arXiv:2303.16900",
    settings={
        "expansion": EXPANSION,
        "activation": one_of("squared_relu", "gelu", "tanh", default="squared_relu"),
        "hidden_norm": flag(True),
    },
)
class MlpHead(nn.Module):
    """linear(hidden_norm(act(hidden(norm(mean of x))))), the hidden layer `expansion` times as wide.

    act is relu(h)^2, GELU or tanh. The code norms the hidden layer with layer norm, epsilon 1e-6, whatever the norm of the
    network; MaxViT (arXiv:2204.01697, with tanh and expansion 1) is without `hidden_norm`.
    """

    def __init__(
        self,
        norm: Callable[[int], nn.Module],
        width: int,
        size: int,
        num_classes: int,
        *,
        expansion: int = 4,
        activation: str = "squared_relu",
        hidden_norm: bool = True,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.norm, self.hidden = norm(width), nn.Linear(width, expansion * width)
        self.hidden_norm = nn.LayerNorm(expansion * width, eps=1e-6) if hidden_norm else nn.Identity()
        self.linear = nn.Linear(expansion * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        y = self.norm(x.mean((1, 2), keepdim=True)).flatten(1)
        hidden = self.hidden(y)
        if self.activation == "squared_relu":
            hidden = torch.square(torch.relu(hidden))
        else:
            hidden = hidden.tanh() if self.activation == "tanh" else F.gelu(hidden)
        return self.linear(self.hidden_norm(hidden))


def reference(module: MlpHead, x: Tensor) -> Tensor:
    """Layer by layer."""
    mean = x.sum((1, 2)) / (x.shape[1] * x.shape[2])
    hidden = naive.linear(module.hidden, module.norm(mean[:, None, None])[:, 0, 0])
    plain = {"squared_relu": lambda h: (h * (h > 0)) ** 2, "gelu": naive.gelu, "tanh": lambda h: 1 - 2 / ((2 * h).exp() + 1)}
    active = plain[module.activation](hidden)
    if isinstance(module.hidden_norm, nn.LayerNorm):
        active = naive.layer_norm(module.hidden_norm, active)
    return naive.linear(module.linear, active)
