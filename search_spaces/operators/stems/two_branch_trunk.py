"""Two vision transformers over small and large patches of the image that exchange their class tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.convolution import expansions
from nas.search_spaces.operators.downsamples.position_table import fitted, stretch
from nas.search_spaces.operators.token_mixers.conv_transformer import resized
from nas.search_spaces.operators.transformer import TransformerLayer, layer_reference
from nas.search_spaces.registry import Kind, Setting, Value, register

EPS = 1e-6
CUBIC = -0.75
"""The free coefficient of torch's bicubic interpolation."""


def scaled(length: int) -> int:
    """The side of the image that the large patches are cut from."""
    return length * 14 // 15


def _row(height: int, width: int, settings: Mapping[str, Value]) -> tuple[int, int]:
    patch = int(settings["patch"]) // 3 * 4
    count = (scaled(height) // patch) * (scaled(width) // patch)
    return (1, count + 1) if count else (0, 0)


@register(
    "two_branch_trunk",
    Kind.STEM,
    cite="Chen et al. 2021 (CrossViT), arXiv:2103.14899, section 3; timm crossvit.py MultiScaleBlock, CrossVit",
    settings={
        "patch": Setting(
            (3, 6, 12),
            rule=lambda v, place: int(v) >= 3 and int(v) % 3 == 0,
            because="the small patch is a multiple of 3 pixels, the large one 4 / 3 of it",
        ),
        "heads": Setting(
            (1, 2),
            rule=lambda v, place: 1 <= int(v) <= place.width // 3 and place.width // 3 % int(v) == 0 == place.width % int(v),
            because="the heads divide the channels of both branches, a third of the width and the rest",
        ),
        "blocks": Setting((1, 2, 3), lambda v, place: 1 <= int(v) <= 8, "there are 1 to 8 blocks"),
        "layers": Setting((4, 1), lambda v, place: 1 <= int(v) <= 12, "the large branch has 1 to 12 layers a block", 4),
        "expansion": expansions(3, 4, default=4),
    },
    out_map=_row,
    sized=True,
)
class TwoBranchTrunk(nn.Module):
    """The rows of both branches side by side, class tokens first: a third of the channels and the rest.

    Each branch is a row of patches behind a class token, with learned positions that are resized bilinearly. The large patches
    are cut from the image made smaller by 14 / 15, bicubically. A block is a transformer layer in the small branch, `layers`
    in the large one, and in both at once the class token's visit to the other branch's patches. Norms have eps 1e-6. Last
    the small branch's patches are resized bilinearly to the map of the large ones: for what reads more than the class tokens.
    It is a whole network: as published a stage without work and the head `two_branch_classifiers` stand behind it.
    """

    def __init__(
        self, in_channels: int, width: int, size: int, *, patch: int, heads: int, blocks: int, layers: int = 4,
        expansion: int = 4,
    ) -> None:  # fmt: skip
        super().__init__()
        small, large = width // 3, width - width // 3
        self.small = PatchRow(in_channels, small, patch, size // patch)
        self.large = PatchRow(in_channels, large, 4 * patch // 3, scaled(size) // (4 * patch // 3))
        self.blocks = nn.ModuleList(TwoBranchBlock(small, large, heads, layers, expansion) for _ in range(blocks))

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 1, N + 1, width) with N large patches."""
        size = (scaled(image.shape[2]), scaled(image.shape[3]))
        x, y = self.small(image), self.large(F.interpolate(image, size=size, mode="bicubic"))
        for block in self.blocks:
            x, y = block(x, y)
        maps = x[:, 1:].unflatten(1, self.small.cut(image.shape[2], image.shape[3]))
        fine = resized(maps, *self.large.cut(*size)).flatten(1, 2)
        return torch.cat((torch.cat((x[:, :1], fine), dim=1), y), dim=-1)[:, None]


class PatchRow(nn.Module):
    """[token, patch x patch patches row by row] + positions."""

    centred: ClassVar[dict[str, tuple[int, ...]]] = {"table": (0, 1)}

    def __init__(self, in_channels: int, width: int, patch: int, side: int) -> None:
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(in_channels, width, patch, patch)
        self.token, self.token_position = (nn.Parameter(torch.randn(width) * 0.02) for _ in range(2))
        self.table = nn.Parameter(torch.randn(max(side, 1), max(side, 1), width) * 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, N + 1, C)."""
        maps: Tensor = self.conv(image).permute(0, 2, 3, 1)
        maps = maps + fitted(self.table, maps.shape[1], maps.shape[2])
        token = (self.token + self.token_position).expand(maps.shape[0], 1, -1)
        return torch.cat((token, maps.flatten(1, 2)), dim=1)

    def cut(self, height: int, width: int) -> tuple[int, int]:
        """The rows and columns of patches of an image."""
        return height // self.patch, width // self.patch


class TwoBranchBlock(nn.Module):
    """The layers of both branches, then the visits of both class tokens."""

    def __init__(self, small: int, large: int, heads: int, layers: int, expansion: int) -> None:
        super().__init__()
        self.small = TransformerLayer(small, heads, expansion, bias=True, eps=EPS)
        self.large = nn.ModuleList(TransformerLayer(large, heads, expansion, bias=True, eps=EPS) for _ in range(layers))
        self.to_large, self.to_small = Visit(small, large, heads), Visit(large, small, heads)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N + 1, small) and (B, M + 1, large), class tokens first -> both."""
        x = self.small(x)
        for layer in self.large:
            y = layer(y)
        first, second = self.to_large(x[:, :1], y[:, 1:]), self.to_small(y[:, :1], x[:, 1:])
        return torch.cat((first, x[:, 1:]), dim=1), torch.cat((second, y[:, 1:]), dim=1)


class Visit(nn.Module):
    """leave(t + out(attention of t to [t, patches])) with t = enter(token): into the other branch's channels and back."""

    def __init__(self, width: int, other: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter_norm, self.norm, self.leave_norm = (nn.LayerNorm(channels, EPS) for channels in (width, other, other))
        self.enter, self.leave = nn.Linear(width, other), nn.Linear(other, width)
        self.q, self.k, self.v, self.out = (nn.Linear(other, other) for _ in range(4))

    def forward(self, token: Tensor, patches: Tensor) -> Tensor:
        """(B, 1, width) and (B, N, other) -> (B, 1, width)."""
        token = self.enter(F.gelu(self.enter_norm(token)))
        x = self.norm(torch.cat((token, patches), dim=1))
        q, k, v = (split_heads(y, self.heads) for y in (self.q(x[:, :1]), self.k(x), self.v(x)))
        token = token + self.out(join_heads(F.scaled_dot_product_attention(q, k, v)))
        back: Tensor = self.leave(F.gelu(self.leave_norm(token)))
        return back


def reference(module: TwoBranchTrunk, image: Tensor) -> Tensor:
    """Layer by layer, key by key."""
    upright = image.permute(0, 2, 3, 1)
    down, across = (_cubic(length, scaled(length)).to(image) for length in image.shape[2:])
    x = _embedded(module.small, upright)
    y = _embedded(module.large, torch.einsum("ih,jw,bhwc->bijc", down, across, upright))
    for block in module.blocks:
        assert isinstance(block, TwoBranchBlock)
        x = layer_reference(block.small, x)
        for layer in block.large:
            assert isinstance(layer, TransformerLayer)
            y = layer_reference(layer, y)
        first, second = _visited(block.to_large, x[:, 0], y[:, 1:]), _visited(block.to_small, y[:, 0], x[:, 1:])
        x, y = (torch.cat((token[:, None], row[:, 1:]), dim=1) for token, row in ((first, x), (second, y)))
    shapes = [(n // module.small.patch, scaled(n) // module.large.patch) for n in image.shape[2:]]
    down, across = (stretch(have, want).to(image) for have, want in shapes)
    maps = x[:, 1:].unflatten(1, (shapes[0][0], shapes[1][0]))
    fine = torch.einsum("ih,jw,bhwc->bijc", down, across, maps).flatten(1, 2)
    pairs = zip((x[:, 0], *fine.unbind(1)), y.unbind(1), strict=True)
    return torch.stack([torch.cat(pair, dim=-1) for pair in pairs], dim=1)[:, None]


def _embedded(row: PatchRow, image: Tensor) -> Tensor:
    maps = naive.conv2d(row.conv, image)
    shapes = zip(row.table.shape[:2], maps.shape[1:3], strict=True)
    down, across = (stretch(have, want).to(image) for have, want in shapes)
    maps = maps + torch.einsum("ih,jw,hwc->ijc", down, across, row.table)
    token = (row.token + row.token_position).repeat(image.shape[0], 1)
    return torch.stack([token, *maps.flatten(1, 2).unbind(1)], dim=1)


def _visited(visit: Visit, token: Tensor, patches: Tensor) -> Tensor:
    token = naive.linear(visit.enter, naive.gelu(naive.layer_norm(visit.enter_norm, token)))
    seen = [naive.layer_norm(visit.norm, t) for t in (token, *patches.unbind(1))]
    query, *others = (naive.linear(visit.q, seen[0]), *(naive.linear(part, t) for part in (visit.k, visit.v) for t in seen))
    query, *others = (t.unflatten(-1, (visit.heads, -1)) for t in (query, *others))
    mixed = naive.attend(query, others[: len(seen)], others[len(seen) :]).flatten(1)
    token = token + naive.linear(visit.out, mixed)
    return naive.linear(visit.leave, naive.gelu(naive.layer_norm(visit.leave_norm, token)))


def _cubic(have: int, want: int) -> Tensor:
    """Bicubic interpolation as a matrix (want, have): pixels outside are those at the border."""
    matrix = torch.zeros(want, have, dtype=torch.float64)
    for i in range(want):
        centre = (i + 0.5) * have / want - 0.5
        for tap in range(int(centre // 1) - 1, int(centre // 1) + 3):
            t = abs(centre - tap)
            near = (CUBIC + 2) * t**3 - (CUBIC + 3) * t**2 + 1
            far = CUBIC * (t**3 - 5 * t**2 + 8 * t - 4)
            matrix[i, min(max(tap, 0), have - 1)] += near if t <= 1 else far
    return matrix
