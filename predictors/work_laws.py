"""How the work of a node follows from its sizes: laws that are read off a few traces and hold for all sizes.

A node is taken apart into its operator, and what joins it to the stream. The operations of a part are recorded at one place
and again with the side, the channels that come in and those that go out doubled, one at a time. Each amount of each operation
then is amount * side^a * in^b * out^c, with exponents that are exact where maps need no padding. So a part costs four traces
however many sizes of it are asked for. The laws are features of a model, not a count: `nas.predictors.cost` counts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Self

import numpy as np
from torch import nn

from nas.errors import SpaceError
from nas.predictors.cost import node_inputs
from nas.predictors.timings import Array
from nas.predictors.work import RESOURCES, SIZED, Operation, amounts, operations
from nas.search_spaces import graph, layers
from nas.search_spaces.architecture import Op
from nas.search_spaces.backbone import module_of, norm_of
from nas.search_spaces.graph import Node
from nas.search_spaces.registry import Kind, Settings, operator

SIDES = (16, 14, 28, 8, 7, 12, 20, 10, 5, 4, 3, 2, 1, 32, 56, 64)
"""Sides at which parts are traced, the first that is legal, and its double."""
WIDTHS = (32, 48, 64, 24, 40, 16, 96, 8, 80, 128, 12, 4)
VECTOR = 16
"""Channels that the widest kernels of CPUs take at once: on other numbers of them an operator may be many times slower, as a
pooling of 24 channels is than one of 32 under ONNX Runtime."""
_INDEX = {name: number for number, name in enumerate(RESOURCES)}
_LEAST = np.array([SIZED.get(name, 0.0) for name in RESOURCES])
MIXER, JOIN, BRANCH, NODE = "mixer", "join", "branch", "node"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of nodes, whatever their sizes: a bare mixer, a norm with a residual, the cut of a branch, or a whole node.

    `fixed` are the channels that do not vary: an image's that a stem reads, the classes that a head tells.
    """

    form: str
    kind: str
    name: str
    settings: Settings = ()
    norm: str = ""
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The side of the map that a part reads, and the channels that come in and go out."""

    side: float
    incoming: float
    outgoing: float

    def logs(self) -> Array:
        """Logarithms, (3,)."""
        return np.log([self.side, self.incoming, self.outgoing])


@dataclass(frozen=True)
class Law:
    """Amounts (terms,) at the sizes `origin`, the resource that each belongs to, and their exponents (terms, 3)."""

    origin: Array
    amounts: Array
    resources: Array
    exponents: Array

    @classmethod
    def read_off(cls, origin: Sizes, traces: Sequence[Sequence[Operation]]) -> Self:
        """The law of traces at `origin` and with the side, the incoming and the outgoing channels doubled.

        Where a trace has other operations than the first, sums over all operations are followed instead of each.
        """
        names = [[item.name for item in trace] for trace in traces]
        found = [_by_operation(trace) for trace in traces]
        if any(other != names[0] for other in names[1:]):
            found = [_summed([_unsized(item) for item in items]) for items in found]
        terms: dict[tuple[int, float, float, float, int], float] = defaultdict(float)
        for place, first in enumerate(found[0]):
            for name, amount in ((name, amount) for name, amount in first.items() if amount > 0):
                grown = [items[place].get(name, 0.0) for items in found[1:]]
                powers = tuple(round(math.log2(more / amount), 3) if more > 0 else 0.0 for more in grown)
                terms[(_INDEX[name], powers[0], powers[1], powers[2], place if name in SIZED else -1)] += amount
        keys = np.array(list(terms), float).reshape(-1, 5)
        return cls(origin.logs(), np.array(list(terms.values())), keys[:, 0].astype(np.int64), keys[:, 1:4])

    def __call__(self, sizes: Sizes) -> Array:
        """The amounts of all resources at some sizes, (resources,)."""
        values = self.amounts * np.exp(self.exponents @ (sizes.logs() - self.origin))
        counted = np.where(values > _LEAST[self.resources], values, 0.0)
        return np.asarray(np.bincount(self.resources, counted, len(RESOURCES)), np.float64)


def work(items: Sequence[Node]) -> Array:
    """The amounts of the resources that nodes take for one example, (n, resources)."""
    found = np.stack([_work(node) for node in items]) if items else np.zeros((0, len(RESOURCES)))
    ragged = np.array([_pooled_channels(node) % VECTOR > 0 for node in items], bool)
    found[ragged, _INDEX["pooled, ragged"]] = found[ragged, _INDEX["pooled"]]
    return found


def _pooled_channels(node: Node) -> int:
    """The channels of the maps that a node pools, if it does: a stem has convolved the image before."""
    return node.out_shape[2] if node.kind == Kind.STEM else node.in_shape[2]


def _work(node: Node) -> Array:
    if node.side or node.emits or node.in_shape[0] != node.in_shape[1] or node.kind == graph.CONTEXT:
        return _traced(node.key, node)
    found = np.zeros(len(RESOURCES))
    for part, sizes in _parts(node):
        law = _law(part)
        if law is None:
            return _traced(node.key, node)
        found += law(sizes)
    return found


_TRACED: dict[str, Array] = {}


def _traced(key: str, node: Node) -> Array:
    """The work of a node for which there is no law, recorded in its place and remembered."""
    if key not in _TRACED:
        shapes = [tuple(item.shape[1:]) for item in node_inputs(node)]
        found = [_filtered(item) for item in _by_operation(operations(partial(module_of, node), shapes))]
        total = _summed(found)[0]
        _TRACED[key] = np.array([total.get(name, 0.0) for name in RESOURCES])
    return _TRACED[key]


def _parts(node: Node) -> Iterator[tuple[Part, Sizes]]:
    """The parts of a node with their sizes."""
    (side, _, incoming), outgoing = node.in_shape, node.out_shape[2]
    if node.kind in (graph.BRANCH, Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER):
        kind = Kind.TOKEN_MIXER if node.kind == graph.BRANCH else Kind(node.kind)
        padded = math.ceil(side / _window(node.settings)) * _window(node.settings)
        yield Part(MIXER, kind, node.operator, node.settings), Sizes(padded, incoming, incoming)
        if node.kind == graph.BRANCH:
            yield Part(BRANCH, node.kind, ""), Sizes(side, incoming, incoming)
        else:
            joined = Op.parse(node.residual)
            yield Part(JOIN, Kind.RESIDUAL, joined.name, joined.settings, node.norm), Sizes(side, incoming, incoming)
        return
    fixed = incoming if node.kind == Kind.STEM else outgoing if node.kind == graph.HEAD else 0
    yield (
        Part(NODE, node.kind, node.operator, node.settings, f"{node.norm}~{node.residual}", fixed),
        Sizes(side, incoming, outgoing),
    )


def _window(settings: Settings) -> int:
    """The side of windows that a map is padded to a multiple of, 1 where there are none."""
    value = dict(settings).get("window", 1)
    return max(value, 1) if isinstance(value, int) else 1


@cache
def _law(part: Part) -> Law | None:
    """The law of a part, None where no place and its double are both legal and run."""
    window = _window(part.settings)
    for side in sorted(SIDES, key=lambda side: side % window > 0):
        for width in WIDTHS:
            places = _places(part, side, width)
            if all(_legal(part, place) for place in places):
                try:
                    kept = {place: operations(*_build(part, place)) for place in dict.fromkeys(places)}
                except Exception:  # an operator whose rule allows what it cannot run; it does run where it was measured
                    continue
                return Law.read_off(places[0], [kept[place] for place in places])
    return None


def _places(part: Part, side: int, width: int) -> list[Sizes]:
    """A place, and those with the side, the incoming and the outgoing channels doubled; the fixed ones stay."""
    scaled = side * (4 if part.kind == Kind.STEM else 1)
    if part.kind == Kind.STEM:
        return [
            Sizes(scaled, part.fixed, width),
            Sizes(2 * scaled, part.fixed, width),
            Sizes(scaled, part.fixed, width),
            Sizes(scaled, part.fixed, 2 * width),
        ]
    if part.kind == graph.HEAD:
        first, more = Sizes(side, width, part.fixed), Sizes(side, 2 * width, part.fixed)
        return [first, Sizes(2 * side, width, part.fixed), more, first]
    if part.kind in (Kind.DOWNSAMPLE, graph.PROJECTION):
        return [Sizes(s, i, o) for s, i, o in ((side, width, 2 * width), (2 * side, width, 2 * width),
                                               (side, 2 * width, 2 * width), (side, width, 4 * width))]  # fmt: skip
    first, more = Sizes(side, width, width), Sizes(side, 2 * width, 2 * width)
    return [first, Sizes(2 * side, width, width), more, first]


def _legal(part: Part, sizes: Sizes) -> bool:
    kind = Kind(part.kind) if part.kind in set(Kind) else None
    if kind is None or (part.form == NODE and kind not in (Kind.STEM, Kind.DOWNSAMPLE, Kind.HEAD)):
        return True
    try:
        width = sizes.incoming if kind == Kind.HEAD else sizes.outgoing
        operator(kind, part.name).check(dict(part.settings), int(width), int(sizes.side))
    except SpaceError:
        return False
    return True


def _build(part: Part, sizes: Sizes) -> tuple[Callable[[], nn.Module], list[tuple[int, ...]]]:
    """What builds a part of some sizes, and the shapes that it reads."""
    side, width = int(sizes.side), int(sizes.incoming)
    if part.form == MIXER:
        made: Any = operator(Kind(part.kind), part.name).module
        return partial(made, width, side, **dict(part.settings)), [(side, side, width)]
    if part.form == JOIN:
        joined: Any = operator(Kind.RESIDUAL, part.name).module
        return lambda: joined(norm_of(part.norm)(width), nn.Identity(), width, **dict(part.settings)), [(side, side, width)]
    if part.form == BRANCH:
        return lambda: layers.Branch(nn.Identity(), width, 2 * width), [(side, side, 2 * width)]
    node = _node(part, side, width, int(sizes.outgoing))
    return partial(module_of, node), [tuple(item.shape[1:]) for item in node_inputs(node)]


def _node(part: Part, side: int, incoming: int, outgoing: int) -> Node:
    """A whole node of a part, of some sizes."""
    norm, _, residual = part.norm.partition("~")
    node = Node("", "", part.kind, part.name, part.settings, norm, (side, side, incoming), (side, side, outgoing), ())
    if part.kind in (Kind.STEM, Kind.DOWNSAMPLE):
        after = operator(Kind(part.kind), part.name).map_after(side, side, part.settings)
        return replace(node, out_shape=(*after, outgoing))
    return replace(node, residual=residual)


def _by_operation(trace: Sequence[Operation]) -> list[dict[str, float]]:
    return [amounts(item) for item in trace]


def _unsized(item: dict[str, float]) -> dict[str, float]:
    """Without the resources that depend on the size of each operation."""
    return {name: amount for name, amount in item.items() if name not in SIZED}


def _filtered(item: dict[str, float]) -> dict[str, float]:
    """Without the amounts that are too small to count."""
    return {name: amount for name, amount in item.items() if amount > SIZED.get(name, 0)}


def _summed(items: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """One mapping with the sums of all."""
    total: dict[str, float] = defaultdict(float)
    for item in items:
        for name, amount in item.items():
            total[name] += amount
    return [dict(total)]
