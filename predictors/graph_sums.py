"""Sums over the nodes of architectures, fast enough for a search: what was read once is found again by its place.

A node's work follows from its operator and from the map that comes in, so an architecture is read as a chain of steps, each
with the state that the one before left behind. Shapes are still derived in one place only: a step that is new is filled in from
`nodes` of the architecture that brought it. Architectures with side inputs or an overview are no chains and are summed node
by node.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from nas.predictors.timings import Array
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.graph import BRANCH, Node, nodes
from nas.search_spaces.registry import Kind, operator

Rows = Callable[[Sequence[Node]], Array]


class Sums(NamedTuple):
    """The sums (n, columns) of n architectures, and their nodes: the rows (rows, columns) of distinct ones, and the row of each
    node, those of architecture i from `ends[i]` on."""

    values: Array
    rows: Array
    numbers: NDArray[np.int64]
    ends: NDArray[np.int64]

    def column(self, place: int) -> Array:
        """One column's numbers of all nodes; of all columns these would be many times what a search has in its caches."""
        return np.asarray(self.rows[:, place][self.numbers])


class GraphSums:
    """Sums of rows (columns,) over the nodes of architectures. `rows` gives (n, columns) numbers of n nodes, asked once each.

    `in_channels` and `num_classes` are those of the networks. One sum takes 20 to 50 microseconds where all steps are known.
    """

    def __init__(self, rows: Rows, in_channels: int, num_classes: int) -> None:
        self._rows, self._outputs = rows, (in_channels, num_classes)
        self._places: list[dict[Hashable, tuple[int, int] | None]] = [{}]  # of each state, what its steps lead to
        self._states: dict[Hashable, int] = {}
        self._numbers: dict[str, int] = {}
        self._waiting: list[Node] = []
        self._matrix: Array | None = None

    def __call__(self, architectures: Sequence[Architecture]) -> Sums:
        """The sums of n architectures, at their own resolutions."""
        found = [self._known(architecture) or self._learned(architecture) for architecture in architectures]
        if self._waiting:
            rows = self._rows(self._waiting)
            self._matrix = rows if self._matrix is None else np.concatenate([self._matrix, rows])
            self._waiting = []
        assert self._matrix is not None, "an architecture has nodes"
        ends = np.cumsum([0, *map(len, found)])
        numbers = np.fromiter(itertools.chain.from_iterable(found), np.int64, ends[-1])
        counts = csr_matrix((np.ones(len(numbers)), numbers, ends), (len(found), len(self._matrix)))
        return Sums(np.asarray(counts @ self._matrix), self._matrix, numbers, ends)

    def _known(self, architecture: Architecture) -> list[int] | None:
        """The numbers of an architecture's steps, None where one is new or it is no chain."""
        found, state, places = [], 0, self._places
        for step in chain(architecture):
            place = places[state].get(step)
            if place is None:
                return None
            number, state = place
            found.append(number)
        return found

    def _learned(self, architecture: Architecture) -> list[int]:
        """The numbers of an architecture's nodes, its steps remembered where it is a chain."""
        walked = nodes(architecture, None, *self._outputs)
        numbers = [self._number(node) for node in walked]
        steps = chain(architecture)
        if len(steps) == len(walked):
            state = 0
            for step, node, number in zip(steps, walked, numbers, strict=True):
                after = self._after(state, node)
                self._places[state][step] = None if _reads_more(node) else (number, after)
                state = after
        return numbers

    def _after(self, state: int, node: Node) -> int:
        """The state that a node leaves: its map. Two branches and what joins them all start from the same map."""
        if node.kind == BRANCH:
            return state
        if node.out_shape not in self._states:
            self._states[node.out_shape] = len(self._places)
            self._places.append({})
        return self._states[node.out_shape]

    def _number(self, node: Node) -> int:
        """The row of a node; a new one waits to be asked for."""
        key = node.key
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._waiting.append(node)
        return self._numbers[key]


def chain(architecture: Architecture) -> list[Hashable]:
    """What decides each node, one after another, given what comes in; [] for an architecture with an overview."""
    if architecture.overview:
        return []
    stem, head, first, last = architecture.stem, architecture.head, architecture.stages[0], architecture.stages[-1]
    norm = first.norm if architecture.stem_norm is None else architecture.stem_norm
    found: list[Hashable] = [(architecture.resolution, stem.name, stem.settings, norm, first.width)]
    width = first.width
    for stage in architecture.stages:
        down = stage.downsample
        if down is not None:
            norm = stage.norm if stage.downsample_norm is None else stage.downsample_norm
            found.append(("downsample", down.name, down.settings, norm, stage.width))
            width = stage.width
        for block in stage.blocks:
            wanted = block.width or stage.width
            if wanted != width:
                found.append(("projection", block.norm or stage.norm, wanted))
                width = wanted
            _add_block(found, block, stage)
    norm = last.norm if architecture.head_norm is None else architecture.head_norm
    found.append(("head", head.name, head.settings, norm))
    return found


def _add_block(found: list[Hashable], block: Block, stage: Stage) -> None:
    """The steps of a block behind its projection."""
    norm = stage.norm if block.norm is None else block.norm
    joined = block.residual or stage.residual
    residual = None if joined is None else (joined.name, joined.settings)
    if len(block.mixers) == 1:
        mixer = block.mixers[0]
        found.append((mixer.name, mixer.settings, norm, residual))
    elif block.mixers:
        found.append(("split", norm))
        found += [(side, block.split, mixer.name, mixer.settings) for side, mixer in enumerate(block.mixers)]
        found.append(("join", residual))
    channel = block.channel_mixer
    if channel is not None:
        found.append(("channel", channel.name, channel.settings, norm, residual))
    elif not block.mixers:
        found.append(("norm", norm))


def _reads_more(node: Node) -> bool:
    """Whether a node's work may depend on more than the step before it: it or its residual reads or leaves something beside."""
    if node.side or node.emits:
        return True
    kind = Kind.TOKEN_MIXER if node.kind == BRANCH else node.kind
    known = [operator(Kind(kind), node.operator)] if kind in set(Kind) else []
    known += [operator(Kind.RESIDUAL, Op.parse(node.residual).name)] if node.residual else []
    return any(found.side or found.emits for found in known)
