"""The head in which a class token attends to the map for a few layers with layer scales."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.heads.class_attention import SETTINGS
from nas.search_spaces.registry import Kind, Setting, flag, register


class ScaledClassAttentionLayer(nn.Module):
    """One layer: the class token attends and passes an MLP, the other tokens change by their norms."""

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, heads: int, expansion: int, init: float, norm_all: bool
    ) -> None:
        super().__init__()
        self.heads, self.norm_all = heads, norm_all
        self.norm, self.mlp_norm = norm(width), norm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.reduce = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.scale, self.mlp_scale = (nn.Parameter(torch.full((width,), init)) for _ in range(2))

    def forward(self, token: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Class token (B, 1, 1, C) and the other tokens (B, 1, N, C) -> the same."""
        x = self.norm(torch.cat((token, rest), dim=2))
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q(x[:, 0, :1]), self.k(x[:, 0]), self.v(x[:, 0]))
        )
        mixed = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, None]
        token, rest = token + self.scale * mixed, rest + self.scale * x[:, :, 1:]
        if self.norm_all:
            both = self.mlp_norm(torch.cat((token, rest), dim=2))
            token, rest = both[:, :, :1], both[:, :, 1:]
        else:
            token = self.mlp_norm(token)
        return token + self.mlp_scale * self.reduce(F.gelu(self.expand(token))), 2 * rest


@register(
    "scaled_class_attention",
    Kind.HEAD,
    cite="El-Nouby et al. 2021 (XCiT), arXiv:2106.09681, section 3.3; timm xcit.py ClassAttentionBlock, Xcit.forward_features",
    settings={
        **{name: SETTINGS[name] for name in ("layers", "heads", "expansion")},
        "init": Setting((1.0, 1e-5), lambda v, place: 0 < float(v) <= 1, "a scale begins above 0 and at most at 1", 1.0),
        "norm_all": flag(True),
    },
)
class ScaledClassAttentionHead(nn.Module):
    """A learned class token, `layers` of attention to the map and MLP with layer scales, then linear(norm(token)).

    The code is followed, not the paper: the layer scale of the attention adds the norm of every other token to it, and the
    residual of the MLP, which the class token alone passes, is what the norm before it gives, and doubles the other tokens.
    Without `norm_all` that norm is the class token's alone (XCiT-N12).
    """

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int, *, layers: int, heads: int,
        expansion: int, init: float = 1.0, norm_all: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.layers = nn.ModuleList(
            ScaledClassAttentionLayer(norm, width, heads, expansion, init, norm_all) for _ in range(layers)
        )
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        rest, token = x.flatten(1, 2)[:, None], self.token.expand(x.shape[0], 1, 1, -1)
        for layer in self.layers:
            token, rest = layer(token, rest)
        return self.linear(self.norm(token)[:, 0, 0])


def reference(module: ScaledClassAttentionHead, x: Tensor) -> Tensor:
    """Head by head, key by key."""
    tokens = torch.cat([module.token.repeat(x.shape[0], 1, 1), x.flatten(1, 2)], dim=1)
    for layer in module.layers:
        assert isinstance(layer, ScaledClassAttentionLayer)
        y = layer.norm(tokens[:, None])[:, 0]
        q, k, v = (naive.linear(part, y).unflatten(-1, (layer.heads, -1)) for part in (layer.q, layer.k, layer.v))
        mixed = naive.linear(layer.out, naive.attend(q[:, 0], list(k.unbind(1)), list(v.unbind(1))).flatten(1))
        tokens = tokens + layer.scale * torch.cat([mixed[:, None], y[:, 1:]], dim=1)
        normed = layer.mlp_norm(tokens[:, None])[:, 0]
        tokens = normed if layer.norm_all else torch.cat([normed[:, :1], tokens[:, 1:]], dim=1)
        hidden = naive.linear(layer.reduce, naive.gelu(naive.linear(layer.expand, tokens[:, 0])))
        tokens = tokens + torch.cat([(layer.mlp_scale * hidden)[:, None], tokens[:, 1:]], dim=1)
    return naive.linear(module.linear, module.norm(tokens[:, None, :1])[:, 0, 0])
