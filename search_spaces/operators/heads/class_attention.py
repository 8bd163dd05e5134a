"""The head in which a class token attends to the map for a few layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.registry import Kind, Setting, flag, one_of, register

SETTINGS = {
    "layers": Setting((1, 2), lambda v, place: isinstance(v, int) and 1 <= v <= 8, "it has 1 to 8 layers"),
    "heads": Setting(
        (2, 4, 8),
        lambda v, place: isinstance(v, int) and v >= 1 and place.width % v == 0,
        "the heads divide the width",
    ),
    "expansion": Setting((2, 3, 4), lambda v, place: isinstance(v, int) and 1 <= v <= 8, "the MLP is 1 to 8 times as wide"),
    "auxiliary": flag(False),
    "bias": flag(False),
    "start": one_of("learned", "mean", default="learned"),
}


class ClassAttentionLayer(nn.Module):
    """cls += attention of the class token to all tokens; cls += mlp(cls); the other tokens stay."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int, heads: int, expansion: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = norm(width), norm(width)
        self.q, self.k, self.v = (nn.Linear(width, width, bias=bias) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.expand, self.reduce = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, token: Tensor, rest: Tensor) -> Tensor:
        """Class token (B, 1, 1, C) and the other tokens (B, 1, N, C) -> class token."""
        x = self.norm(torch.cat((token, rest), dim=2))[:, 0]
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(x[:, :1]), self.k(x), self.v(x)))
        token = token + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, None]
        return token + self.reduce(F.gelu(self.expand(self.mlp_norm(token))))


@register(
    "class_attention",
    Kind.HEAD,
    cite="Touvron et al. 2021 (CaiT), arXiv:2103.17239, section 3; Yuan et al. 2021 (VOLO), arXiv:2106.13112, official volo.py "
    "ClassBlock, VOLO.forward; start: Patro et al. 2023 (SpectFormer), arXiv:2304.06446, official spectformer.py "
    "SpectFormer.forward_cls",
    settings=SETTINGS,
)
class ClassAttentionHead(nn.Module):
    """A class token, `layers` of attention to the map and MLP, then linear(norm(token)).

    The token starts as a learned vector, or as the mean of the map (`start`), as in SpectFormer and SVT.

    With `auxiliary`, half the maximum over the positions of a second classifier is added, as in VOLO's code in evaluation;
    there training returns both apart for token labelling, here training and evaluation are the same. `bias` is that of the
    queries, keys and values.
    """

    def __init__(
        self, norm: Callable[[int], nn.Module], width: int, size: int, num_classes: int, *, layers: int, heads: int,
        expansion: int, auxiliary: bool = False, bias: bool = False, start: str = "learned",
    ) -> None:  # fmt: skip
        super().__init__()
        self.token = nn.Parameter(torch.randn(width) * 0.02) if start == "learned" else None
        self.layers = nn.ModuleList(ClassAttentionLayer(norm, width, heads, expansion, bias) for _ in range(layers))
        self.norm, self.linear = norm(width), nn.Linear(width, num_classes)
        self.auxiliary = nn.Linear(width, num_classes) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, num_classes)."""
        rest = x.flatten(1, 2)[:, None]
        token = rest.mean(2, keepdim=True) if self.token is None else self.token.expand(x.shape[0], 1, 1, -1)
        for layer in self.layers:
            token = layer(token, rest)
        tokens = self.norm(torch.cat((token, rest), dim=2))[:, 0]
        logits = self.linear(tokens[:, 0])
        return logits if self.auxiliary is None else logits + 0.5 * self.auxiliary(tokens[:, 1:]).amax(1)


def reference(module: ClassAttentionHead, x: Tensor) -> Tensor:
    """Head by head, key by key."""
    places = x.flatten(1, 2)
    first = (
        torch.stack(places.unbind(1)).sum(0) / places.shape[1] if module.token is None else module.token.repeat(x.shape[0], 1)
    )
    tokens = torch.cat([first[:, None], places], dim=1)
    for layer in module.layers:
        assert isinstance(layer, ClassAttentionLayer)
        y = layer.norm(tokens[:, None])[:, 0]
        q, k, v = (naive.linear(part, y).unflatten(-1, (layer.heads, -1)) for part in (layer.q, layer.k, layer.v))
        mixed = naive.attend(q[:, 0], list(k.unbind(1)), list(v.unbind(1))).flatten(1)
        first = tokens[:, 0] + naive.linear(layer.out, mixed)
        hidden = naive.gelu(naive.linear(layer.expand, layer.mlp_norm(first[:, None, None])[:, 0, 0]))
        tokens = torch.cat([(first + naive.linear(layer.reduce, hidden))[:, None], tokens[:, 1:]], dim=1)
    tokens = module.norm(tokens[:, None])[:, 0]
    logits = naive.linear(module.linear, tokens[:, 0])
    if module.auxiliary is None:
        return logits
    return logits + 0.5 * torch.stack([naive.linear(module.auxiliary, t) for t in tokens[:, 1:].unbind(1)]).max(0).values
