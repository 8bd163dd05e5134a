"""The slow form of every attention: query by query, key by key, for the references of the patterns."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from nas.search_spaces.operators import naive
from nas.search_spaces.operators.attention_base import Attention
from nas.search_spaces.operators.positions.base import Pair, Position

Sees = Callable[[int, int, int], Sequence[Pair]]
"""The pairs of a query: `(head, row, column) -> pairs`. A key outside its map is a zero key with a zero value."""


def attend(module: Attention, x: Tensor, sees: Sees, z: Tensor | None = None) -> Tensor:
    """The output (B, H, W, C) of an attention whose queries see the given keys of the map z (default: x).

    A pattern's reference lists the pairs and makes z, plainly and in its own way; everything else is done here.
    """
    x = prepared(module, x)
    z = x if z is None else z
    v = naive.linear(module.v, z)
    y = mixed(module, x, z, v, sees)
    return finished(module, x, y if module.lepe is None else y + naive.conv2d(module.lepe, v))


def prepared(module: Attention, x: Tensor) -> Tensor:
    """The input map as the projections get it."""
    before = getattr(_file(module.position), "before_reference", None)
    return x if before is None else before(module.position, x)


def mixed(module: Attention, x: Tensor, z: Tensor, v: Tensor, sees: Sees) -> Tensor:
    """The values (B, H', W', C) mixed for each query of x, with keys made of z: (B, H, W, C)."""
    q, k = _projected(module, x, module.q), _projected(module, z, module.k)
    values, file = v.unflatten(-1, (module.heads, -1)), _file(module.position)
    read = file.read_reference(module.position, x) if hasattr(file, "read_reference") else x
    rows = []
    for i in range(x.shape[1]):
        tokens = []
        for j in range(x.shape[2]):
            heads = []
            for h in range(module.heads):
                pairs = sees(h, i, j)
                weights = _weights(module, h, q[:, i, j, h], _at(k[..., h, :], pairs), pairs, read)
                heads.append((weights[..., None] * _at(values[..., h, :], pairs)).sum(1))
            tokens.append(torch.cat(heads, dim=-1))
        rows.append(torch.stack(tokens, dim=1))
    return torch.stack(rows, dim=1)


def finished(module: Attention, x: Tensor, y: Tensor) -> Tensor:
    """The gate and the projection of mixed values."""
    if module.gate is not None:
        opening = naive.linear(module.gate, x)
        opened = 1 / (1 + torch.exp(-opening))
        y = y * (opening * opened if module.gate_kind == "silu" else opened)
    return naive.linear(module.out, y) if isinstance(module.out, nn.Linear) else y


def _projected(module: Attention, x: Tensor, layer: nn.Linear) -> Tensor:
    """Queries or keys, turned and scaled: (B, H, W, heads, d)."""
    y = naive.linear(layer, x).unflatten(-1, (module.heads, -1))
    if module.score == "cosine":
        y = y / (y**2).sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
    turn = getattr(_file(module.position), "turn_reference", None)
    return y if turn is None else turn(module.position, y)


def _weights(
    module: Attention, head: int, query: Tensor, keys: Tensor, pairs: Sequence[Pair], read: Tensor
) -> Tensor:  # fmt: skip
    """How much one head of one query (B, d) takes from each key (B, M, d): (B, M)."""
    file, position = _file(module.position), module.position
    if module.score == "cosine":
        query = query * module.temperature[head].clamp(max=4.605170185988092).exp()
    scores = (query[:, None] * keys).sum(-1) * (1.0 if module.score == "cosine" else query.shape[-1] ** -0.5)
    if hasattr(file, "stretch_reference"):
        scores = scores * file.stretch_reference(position, pairs, head)
    if hasattr(file, "query_bias_reference"):
        scores = scores + file.query_bias_reference(position, pairs, query)
    first = scores + file.bias_reference(position, pairs, head, read) if hasattr(file, "bias_reference") else scores
    weights = _normalised(module.normaliser, first)
    if hasattr(file, "other_bias_reference"):
        second = scores + file.other_bias_reference(position, pairs, head, read)
        weights = (weights + _normalised(module.normaliser, second)) / 2
    return file.blend_reference(position, weights, pairs, head) if hasattr(file, "blend_reference") else weights


def _at(vectors: Tensor, pairs: Sequence[Pair]) -> Tensor:
    """The vectors of the pairs' keys, (B, M, d), on a map (B, H, W, d) with zeros outside."""
    height, width = vectors.shape[1:3]
    inside = [0 <= pair.key[0] < height and 0 <= pair.key[1] < width for pair in pairs]
    places = [pair.key[0] * width + pair.key[1] if known else 0 for pair, known in zip(pairs, inside, strict=True)]
    found = vectors.flatten(1, 2)[:, places]
    return found if all(inside) else found * torch.tensor(inside, dtype=vectors.dtype)[:, None]


def _normalised(normaliser: str, scores: Tensor) -> Tensor:
    """(B, M) -> (B, M)."""
    if normaliser == "relu":
        return scores.clamp(min=0) / scores.shape[-1]
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    weights = weights / weights.sum(-1, keepdim=True)
    return (1.03 * weights - 0.03).clamp(0, 1) if normaliser == "clipped_softmax" else weights


def _file(position: Position) -> ModuleType:
    return importlib.import_module(type(position).__module__)
