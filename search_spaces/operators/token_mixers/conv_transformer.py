"""A small transformer over strided grids of the map, between convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.activations import activation, naive_activation
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.convolution import expansions, normed
from nas.search_spaces.operators.downsamples.position_table import stretch
from nas.search_spaces.registry import Group, Kind, Setting, one_of, register

STEP = 2
"""Pixels that are an even number of rows and columns apart see each other."""


class TransformerLayer(nn.Module):
    """x += out(softmax(q k^T / sqrt(d)) v) of norm(x); x += reduce(act(expand(mlp_norm(x))))."""

    def __init__(self, width: int, heads: int, expansion: int, act: str) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.expand, self.reduce = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        y = self.norm(x)
        q, k, v = (split_heads(layer(y), self.heads) for layer in (self.q, self.k, self.v))
        x = x + self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        mixed: Tensor = x + self.reduce(self.act(self.expand(self.mlp_norm(x))))
        return mixed


@register(
    "conv_transformer",
    Kind.TOKEN_MIXER,
    group=Group.ATTENTION,
    cite="Mehta and Rastegari 2022 (MobileViT), arXiv:2110.02178, section 3.1; timm mobilevit.py MobileVitBlock",
    settings={
        "heads": Setting((2, 4), rule=lambda v, place: 1 <= int(v) <= 16, because="there are 1 to 16 heads"),
        "inner": Setting(
            (32, 48),
            rule=lambda v, place: 8 <= int(v) <= 512 and int(v) % int(place.chosen["heads"]) == 0,
            because="the transformer is 8 to 512 channels wide, a multiple of the heads",
        ),
        "layers": Setting((1, 2), rule=lambda v, place: 1 <= int(v) <= 8, because="the transformer has 1 to 8 layers"),
        "expansion": expansions(2, 4, default=2),
        "act": one_of("silu", "relu", "gelu", default="silu"),
    },
)
class ConvTransformer(nn.Module):
    """act(BN(F [x, act(BN(P2 norm(layers(P1 act(BN(K x))))))])): K and F dense 3x3, P1 and P2 pointwise to `inner` and back.

    The layers see the map as 2 x 2 grids of every second pixel, each by itself. Odd maps are resized bilinearly to even ones
    for them, and back. It replaces the stream: as published it is used without a norm and with the residual `none`. With d
    inner channels, L layers, e the expansion: MACs N (27 C^2 + 2 C d) + L N (4 + 2 e) d^2 + L N^2 d / 2.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, inner: int, layers: int, expansion: int = 2, act: str = "silu"
    ) -> None:
        super().__init__()
        self.local, self.local_norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.enter, self.leave = nn.Linear(width, inner, bias=False), nn.Conv2d(inner, width, 1, bias=False)
        self.layers = nn.ModuleList(TransformerLayer(inner, heads, expansion, act) for _ in range(layers))
        self.norm, self.leave_norm = nn.LayerNorm(inner), nn.BatchNorm2d(width)
        self.fuse, self.fuse_norm = nn.Conv2d(2 * width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.act = activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        y = self.enter(self.act(normed(self.local, self.local_norm, x)).permute(0, 2, 3, 1))
        height, width = x.shape[2:]
        y = resized(y, height + height % STEP, width + width % STEP)
        rows, columns = y.shape[1] // STEP, y.shape[2] // STEP
        grids = y.view(-1, rows, STEP, columns, STEP, y.shape[3]).permute(0, 2, 4, 1, 3, 5)
        tokens = grids.reshape(-1, rows * columns, y.shape[3])
        for layer in self.layers:
            tokens = layer(tokens)
        grids = self.norm(tokens).view(-1, STEP, STEP, rows, columns, y.shape[3])
        y = resized(grids.permute(0, 3, 1, 4, 2, 5).reshape(y.shape), height, width).permute(0, 3, 1, 2)
        y = self.act(normed(self.leave, self.leave_norm, y))
        out: Tensor = self.act(normed(self.fuse, self.fuse_norm, torch.cat((x, y), dim=1))).permute(0, 2, 3, 1)
        return out


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """A map of that size, bilinearly: (B, h, w, C) -> (B, height, width, C)."""
    if x.shape[1:3] == (height, width):
        return x
    return F.interpolate(x.permute(0, 3, 1, 2), size=(height, width), mode="bilinear").permute(0, 2, 3, 1)


def macs(width: int, size: int, *, heads: int, inner: int, layers: int, expansion: int = 2, act: str = "silu") -> int:
    """Multiply-adds for one image."""
    pixels, even = size**2, (size + size % STEP) ** 2
    layer = even * (4 + 2 * expansion) * inner**2 + 2 * even**2 // STEP**2 * inner
    return pixels * (27 * width**2 + 2 * width * inner) + layers * layer


def reference(module: ConvTransformer, x: Tensor) -> Tensor:
    """Layer by layer, the attention query by query and key by key."""
    local = naive_activation(module.act, naive.batch_norm(module.local_norm, naive.conv2d(module.local, x)))
    y = _stretched(naive.linear(module.enter, local), [n + n % STEP for n in x.shape[1:3]])
    for layer in module.layers:
        assert isinstance(layer, TransformerLayer)
        y = y + _attended(layer, naive.layer_norm(layer.norm, y))
        hidden = naive_activation(layer.act, naive.linear(layer.expand, naive.layer_norm(layer.mlp_norm, y)))
        y = y + naive.linear(layer.reduce, hidden)
    y = _stretched(naive.layer_norm(module.norm, y), list(x.shape[1:3]))
    y = naive_activation(module.act, naive.batch_norm(module.leave_norm, naive.conv2d(module.leave, y)))
    y = naive.batch_norm(module.fuse_norm, naive.conv2d(module.fuse, torch.cat((x, y), dim=-1)))
    return naive_activation(module.act, y)


def _stretched(y: Tensor, shape: list[int]) -> Tensor:
    rows, columns = (stretch(have, want).to(y) for have, want in zip(y.shape[1:3], shape, strict=True))
    return torch.einsum("ih,jw,bhwc->bijc", rows, columns, y)


def _attended(layer: TransformerLayer, y: Tensor) -> Tensor:
    """Each pixel with those that are an even number of rows and columns away."""
    q, k, v = (naive.linear(part, y).unflatten(-1, (layer.heads, -1)) for part in (layer.q, layer.k, layer.v))
    rows = []
    for i in range(y.shape[1]):
        tokens = []
        for j in range(y.shape[2]):
            places = [(n, m) for n in range(i % STEP, y.shape[1], STEP) for m in range(j % STEP, y.shape[2], STEP)]
            keys, values = ([part[:, n, m] for n, m in places] for part in (k, v))
            tokens.append(naive.attend(q[:, i, j], keys, values).flatten(1))
        rows.append(torch.stack(tokens, dim=1))
    return naive.linear(layer.out, torch.stack(rows, dim=1))
