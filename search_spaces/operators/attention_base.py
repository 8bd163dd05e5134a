"""Attention in its parts. A pattern says who sees whom; position, score, normaliser and gate are chosen beside it.

A pattern is a subclass of `Attention` in a file of its own under `token_mixers/` that overrides `attend` (and where keys are
not the tokens themselves, `sources`). It cuts the maps of queries, keys and values into tiles, and calls `mix`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.search_spaces.operators.attention import join_heads, split_heads
from nas.search_spaces.operators.positions.base import Layout, Position
from nas.search_spaces.operators.positions.cpe import CpePosition
from nas.search_spaces.operators.positions.decay import DecayPosition, DecayPosition5, DecayPosition6
from nas.search_spaces.operators.positions.gated import GatedPosition
from nas.search_spaces.operators.positions.gaussian import GaussianPosition
from nas.search_spaces.operators.positions.log_cpb import LogCpbPosition
from nas.search_spaces.operators.positions.polyline import PolylinePosition
from nas.search_spaces.operators.positions.relative_query import RelativeQueryPosition
from nas.search_spaces.operators.positions.rope import RopePosition, rotate
from nas.search_spaces.operators.positions.symmetric_table import SymmetricTablePosition
from nas.search_spaces.operators.positions.table import TablePosition
from nas.search_spaces.registry import Place, Setting, Value, flag, one_of

POSITIONS: dict[str, type[Position]] = {
    "none": Position,
    "table": TablePosition,
    "symmetric_table": SymmetricTablePosition,
    "log_cpb": LogCpbPosition,
    "rope": RopePosition,
    "decay": DecayPosition,
    "decay_5": DecayPosition5,
    "decay_6": DecayPosition6,
    "gaussian": GaussianPosition,
    "gated": GatedPosition,
    "relative_query": RelativeQueryPosition,
    "polyline": PolylinePosition,
    "cpe": CpePosition,
}
NORMALISERS = ("softmax", "clipped_softmax", "relu")
HIDDEN = -1e4
"""What is added to the score of a key that a query may not see."""
LOG_100 = 4.605170185988092
"""The largest logarithm of a cosine score's factor."""


LEPE = Setting((0, 3, 5), lambda v, place: v in (0, 3, 5, 7), "0 for none, or an odd kernel up to 7", 0)
"""The kernel of the depth-wise convolution of the values."""


def _heads_fit(value: Value, place: Place) -> bool:
    ratio = float(value)
    return 0 < ratio <= 1 and place.width * ratio % int(place.chosen["heads"]) == 0


def modifiers(position: str = "none", *, own_map: bool = False) -> Mapping[str, Setting]:
    """The optional settings of every attention, to be put behind a pattern's own; `position` is the pattern's usual prior.

    `own_map`: keys lie on the input map itself and layouts name the places of both, which some priors need.
    """
    names = (position, *(name for name, prior in POSITIONS.items() if name != position and (own_map or not prior.own_map)))
    return {
        "position": one_of(*names, default=position),
        "score": one_of("dot", "cosine", default="dot"),
        "normaliser": one_of(*NORMALISERS, default="softmax"),
        "gate": one_of("none", "sigmoid", "silu", default="none"),
        "lepe": LEPE,
        "qk_ratio": Setting(
            (1.0, 0.5), _heads_fit, "queries and keys have at most the channels of the values, a multiple of the heads", 1.0
        ),
        "bias": flag(True),
        "key_bias": flag(True),
        "out": one_of("biased", "plain", default="biased"),
    }


class Modifiers(TypedDict, total=False):
    """The choices beside a pattern and its heads; what is left out is at its default."""

    position: str
    score: str
    normaliser: str
    gate: str
    lepe: int
    qk_ratio: float
    bias: bool
    key_bias: bool
    out: str


class Attention(nn.Module):
    """y = out(gate(x) * (mix(q(x), k(z), v(z)) + lepe(v(z)))), z = sources(x), the mixing done tile by tile by `attend`.

    `usual` and `usual_lepe` are the position prior and the LePE kernel of the pattern. `reach` bounds the relative offsets that
    the pattern produces: |offset| < reach. `score` cosine: queries and keys are brought to length 1 and the scores multiplied
    by min(exp(temperature_h), 100) instead of 1 / sqrt(d) (Liu et al. 2022, Swin V2, arXiv:2111.09883, eq. 2; its official
    logit_scale). `normaliser` clipped_softmax: clip(1.03 softmax - 0.03, 0, 1), Bondarenko et al. 2023, arXiv:2306.12929,
    eq. 4, with the gate of its eq. 5 (`sigmoid`: per channel, linear); relu: relu(score) / number of visible keys, Wortsman
    et al. 2023, arXiv:2309.08586. `lepe`: a depth-wise convolution of the values, Dong et al. 2021 (CSWin), arXiv:2107.00652,
    eq. 10. Gate silu: Lou et al. 2025 (A2Mamba), arXiv:2507.16624. `bias`: q, k and v have one; without `key_bias` q and v
    only (Swin V2). `out`: the projection of the result with a bias, plain without, or none (HaloNet projects later).
    """

    head_symmetries: ClassVar[tuple[tuple[tuple[str, int], ...], ...]] = (
        (
            ("q.weight", 0),
            ("q.bias", 0),
            ("k.weight", 0),
            ("k.bias", 0),
            ("v.weight", 0),
            ("v.bias", 0),
            ("position.table", 2),
            ("out.weight", 1),
        ),
    )

    def __init__(
        self, width: int, reach: int, *, heads: int, usual: str = "none", usual_lepe: int = 0, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__()
        gate, lepe, bias = chosen.get("gate", "none"), chosen.get("lepe", usual_lepe), chosen.get("bias", True)
        self.heads, self.score, self.gate_kind = heads, chosen.get("score", "dot"), gate
        self.normaliser, out = chosen.get("normaliser", "softmax"), chosen.get("out", "biased")
        narrow = int(width * chosen.get("qk_ratio", 1.0))
        self.q, self.k = nn.Linear(width, narrow, bias), nn.Linear(width, narrow, bias and chosen.get("key_bias", True))
        self.v = nn.Linear(width, width, bias)
        self.out = nn.Identity() if out == "none" else nn.Linear(width, width, out == "biased")
        self.position = POSITIONS[chosen.get("position", usual)](width, heads, reach, narrow)
        if self.score == "cosine":
            self.temperature = nn.Parameter(torch.full((heads,), 10.0).log())
        self.lepe = nn.Conv2d(width, width, lepe, padding=lepe // 2, groups=width) if lepe else None
        self.gate = nn.Linear(width, width) if gate != "none" else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = self.position.before(x)
        q, k, v = self.projected(x, self.sources(x))
        y = self.attend(x, q, k, v)
        if self.lepe is not None:
            y = y + self.enhance(v, self.lepe)
        if self.gate is not None:
            opening = self.gate(x)
            y = y * (F.silu(opening) if self.gate_kind == "silu" else opening.sigmoid())
        out: Tensor = self.out(y)
        return out

    def projected(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, keys and values of z, ready for `attend`."""
        q, k, v = self.scaled(self.q(x)), self.scaled(self.k(z)), self.v(z)
        turns = self.position.turns(x)
        if turns is not None:
            q, k = (rotate(each, *turns, self.heads) for each in (q, k))
        if self.score == "cosine":
            q = (split_last(q, self.heads) * self.temperature.clamp(max=LOG_100).exp()[:, None]).flatten(-2)
        return q, k, v

    def sources(self, x: Tensor) -> Tensor:
        """The map that keys and values are made of: the input itself, unless the pattern makes another."""
        return x

    def attend(self, x: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The mixed values (B, H, W, C) of the pattern; x is the input map."""
        raise TypeError(f"{type(self).__name__} is no pattern: it does not say who sees whom")

    def enhance(self, v: Tensor, lepe: nn.Conv2d) -> Tensor:
        """The convolution of the values that is added to what `attend` gives: (B, H, W, C)."""
        return lepe(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def scaled(self, x: Tensor) -> Tensor:
        """Queries or keys at length 1 for the cosine score, else as they are."""
        return F.normalize(split_last(x, self.heads), dim=-1).flatten(-2) if self.score == "cosine" else x

    def mix(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, layout: Layout | None, seen: Tensor | None = None,
        part: slice | None = None,
    ) -> Tensor:  # fmt: skip
        """Attention inside each of P tiles: (B, P, N, Cq), (B, P, M, Cq), (B, P, M, C) -> (B, P, N, C).

        `layout` is needed by priors that have `places`. `seen` (P or 1, N, M), or (B, P, N, M) where the pattern depends on
        the image, says which keys a query sees (default: all). `part` are the heads that the channels belong to, where a
        pattern treats some heads apart.
        """
        part = part or slice(0, self.heads)
        biases, stretch = self._terms(x, q, layout, seen, part)
        plain = type(self.position).blend is Position.blend and stretch is None and len(biases) == 1
        if plain and self.normaliser == "softmax":
            return mix_fast(q, k, v, biases[0], part.stop - part.start, self.scale)
        weights = self._weights(q, k, biases, stretch, layout, seen, part)
        return join_heads(weights @ split_heads(v, part.stop - part.start))

    def weigh(self, x: Tensor, q: Tensor, k: Tensor, layout: Layout | None, seen: Tensor | None = None) -> Tensor:
        """The weights (B, P, heads, N, M) with which `mix` would take the values, where they serve several times."""
        part = slice(0, self.heads)
        biases, stretch = self._terms(x, q, layout, seen, part)
        return self._weights(q, k, biases, stretch, layout, seen, part)

    def _terms(
        self, x: Tensor, q: Tensor, layout: Layout | None, seen: Tensor | None, part: slice
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """What is added to the scores, two where the weights are the mean of what both give, and what multiplies them."""
        biases: list[Tensor | None] = [None]
        stretch = None
        if layout is not None:
            bias, query = self.position.bias(layout, x), self.position.query_bias(layout, q, part)
            biases = [_sum(_of(one, part), query) for one in (bias if isinstance(bias, tuple) else (bias,))]
            stretch = _of(self.position.stretch(layout), part)
        if seen is not None:
            hidden = (~seen[..., None, :, :]).to(q.dtype) * HIDDEN
            biases = [_sum(bias, hidden) for bias in biases]
        return biases, stretch

    @property
    def scale(self) -> float | None:
        """What scores are multiplied by; None for 1 / sqrt(d)."""
        return 1.0 if self.score == "cosine" else None

    def _weights(
        self, q: Tensor, k: Tensor, biases: list[Tensor | None], stretch: Tensor | None, layout: Layout | None,
        seen: Tensor | None, part: slice,
    ) -> Tensor:  # fmt: skip
        q, k = (split_heads(each, part.stop - part.start) for each in (q, k))
        scores = (q * (self.scale or q.shape[-1] ** -0.5)) @ k.transpose(-1, -2)
        scores = scores if stretch is None else scores * stretch
        several = [self._normalised(scores if bias is None else scores + bias) for bias in biases]
        weights = several[0] if len(several) == 1 else (several[0] + several[1]) / 2
        return weights if layout is None else self.position.blend(weights, layout, part, seen)

    def _normalised(self, scores: Tensor) -> Tensor:
        if self.normaliser == "relu":
            return F.relu(scores) / (scores > HIDDEN / 2).sum(-1, keepdim=True).clamp(min=1)
        weights = scores.softmax(-1)
        return (1.03 * weights - 0.03).clamp(0, 1) if self.normaliser == "clipped_softmax" else weights


def _of(hook: Tensor | None, part: slice) -> Tensor | None:
    """The heads in `part` of what a prior gives for all heads."""
    return None if hook is None else hook[..., part, :, :]


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return first if second is None else second
    return first + second


def projection_macs(module: Attention, pixels: int, sources: int) -> int:
    """MACs of what is done once for the maps of `pixels` queries and `sources` keys: projections, gate, and the prior's."""
    narrow, width = module.q.out_features, module.v.out_features
    tokenwise = (isinstance(module.out, nn.Linear) + (module.gate is not None)) * width * width
    return pixels * (width * narrow + tokenwise) + sources * width * (narrow + width) + module.position.map_macs(pixels)


def attention_macs(
    module: Attention, pixels: int, sources: int, tiles: int, queries: int, keys: int, *, layouts: int | None = None,
    parts: int = 1,
) -> int:  # fmt: skip
    """MACs of an attention without its `sources`: `tiles` tiles of `queries` x `keys` pairs, for maps of that many tokens.

    `layouts`: how many of the tiles differ in their layout (default: all are alike). `parts`: the heads are mixed in that many
    equal parts, each in so many tiles.
    """
    narrow, width = module.q.out_features, module.v.out_features
    local = 0 if module.lepe is None else sources * width * module.lepe.kernel_size[0] ** 2
    mixing = tiles * queries * keys * (narrow + width)
    position = module.position.macs(queries, keys, layouts or 1, tiles, pixels, parts)
    return projection_macs(module, pixels, sources) + local + mixing + position


def split_last(x: Tensor, heads: int) -> Tensor:
    """(..., C) -> (..., heads, C / heads)."""
    return x.unflatten(-1, (heads, x.shape[-1] // heads))


def mix_fast(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, heads: int, scale: float | None) -> Tensor:
    """Softmax attention in P tiles by the fused kernel; `bias` (P or 1, heads or 1, N, M), or that for each image, or None.

    ONNX takes attention over four dimensions only, so the tiles join the batch, or where they differ in bias, the heads: then
    the bias is not copied for the batch.
    """
    batch, tiles = q.shape[:2]
    if bias is not None and bias.dim() == 5:
        bias = bias.expand(batch, tiles, *bias.shape[2:]).flatten(0, 1)
        parts = [split_heads(x, heads).flatten(0, 1) for x in (q, k, v)]
    elif bias is not None and bias.shape[0] > 1:
        bias = bias.expand(-1, heads, -1, -1).flatten(0, 1)[None]
        parts = [split_heads(x, heads).flatten(1, 2) for x in (q, k, v)]
    else:
        parts = [split_heads(x, heads).flatten(0, 1) for x in (q, k, v)]
    mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=bias, scale=scale)
    return join_heads(mixed.reshape(batch, tiles, heads, q.shape[2], v.shape[-1] // heads))
