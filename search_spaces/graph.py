"""The one graph of an architecture: what is built, shared, costed, timed, encoded and drawn.

`nodes(architecture)` is the only place where shapes are derived. Node kinds beyond the operators' own: `split` (the norm
before two parallel mixers), `branch` (a mixer on part of the channels), `concat` (joins the branches and adds the
residual), `projection` (a change of width inside a stage) and `head` (norm, global average pooling, classifier).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import networkx as nx

from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.registry import Kind, Settings, operator

IMAGE = "image"
SPLIT, BRANCH, CONCAT, PROJECTION, HEAD = "split", "branch", "concat", "projection", "head"
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One unit of a network, of one example's shapes (height, width, channels).

    `slot` is the place whose weights it shares in a supernet, `channels` the part of its input's channels a branch reads,
    `inputs` the names of the nodes it reads, `stage` the index of the stage it belongs to (None for stem and head). Nodes
    with equal `key` do the same work and take the same time.
    """

    name: str
    slot: str
    kind: str
    operator: str
    settings: Settings
    norm: str
    in_shape: Shape
    out_shape: Shape
    inputs: tuple[str, ...]
    channels: tuple[int, int] | None = None
    stage: int | None = None

    @property
    def key(self) -> str:
        """Everything that decides the node's work, as text."""
        settings = ",".join(f"{k}={v}" for k, v in self.settings)
        shapes = "->".join("x".join(map(str, shape)) for shape in (self.in_shape, self.out_shape))
        part = "" if self.channels is None else f"[{self.channels[0]}:{self.channels[1]}]"
        return f"{self.kind}:{self.operator}({settings}):{self.norm}:{shapes}{part}"


@lru_cache(maxsize=4096)
def nodes(
    architecture: Architecture, resolution: int | None = None, in_channels: int = 3, num_classes: int = 1000
) -> tuple[Node, ...]:
    """The nodes in an order in which every node's inputs come before it.

    Settings are checked at the architecture's own resolution, shapes are given at `resolution`. Raises SpaceError where an
    operator is unknown, a setting is illegal, or the input is smaller than the total stride.
    """
    walk = _Walk(architecture, resolution or architecture.resolution, in_channels, num_classes)
    walk.stem()
    for index, stage in enumerate(architecture.stages):
        walk.stage(index, stage)
    walk.head()
    return tuple(walk.found)


def to_networkx(
    architecture: Architecture, resolution: int | None = None, in_channels: int = 3, num_classes: int = 1000
) -> nx.DiGraph:
    """A frozen DiGraph; node attributes are the fields of `Node`, edges carry the `shape` of their tensor."""
    graph = nx.DiGraph(digest=architecture.digest)
    side = resolution or architecture.resolution
    shapes: dict[str, Shape] = {IMAGE: (side, side, in_channels)}
    graph.add_node(IMAGE, kind=IMAGE, operator=IMAGE, settings={}, out_shape=shapes[IMAGE])
    for node in nodes(architecture, resolution, in_channels, num_classes):
        shapes[node.name] = node.out_shape
        graph.add_node(
            node.name,
            kind=node.kind,
            operator=node.operator,
            settings=dict(node.settings),
            norm=node.norm,
            slot=node.slot,
            in_shape=node.in_shape,
            out_shape=node.out_shape,
        )
        for source in node.inputs:
            graph.add_edge(source, node.name, shape=shapes[source])
    return nx.freeze(graph)


def branch_widths(width: int, split: float) -> tuple[int, int]:
    """Channels of the two branches: `split` of the width in steps of 8, at least 8 on each side.

    Raises SpaceError where the width is below 16.
    """
    if width < 16:
        raise SpaceError(f"two parallel mixers need at least 16 channels, got {width}")
    first = min(max(8, round(width * split / 8) * 8), width - 8)
    return first, width - first


class _Walk:
    """The state of one walk: the current tensor's name, map size, and width."""

    def __init__(self, architecture: Architecture, resolution: int, in_channels: int, num_classes: int) -> None:
        self.architecture, self.num_classes = architecture, num_classes
        self.found: list[Node] = []
        self.at = IMAGE
        self.size, self.built_size, self.width = resolution, architecture.resolution, in_channels
        self.norm = architecture.stages[0].norm
        self.index: int | None = None

    def add(
        self, name: str, slot: str, kind: str, op: Op, *, size: int | None = None, width: int | None = None,
        inputs: tuple[str, ...] | None = None, channels: tuple[int, int] | None = None, norm: str | None = None,
    ) -> None:  # fmt: skip
        """Append a node that reads the current tensor and becomes it."""
        in_shape = (self.size, self.size, self.width if channels is None else channels[1] - channels[0])
        self.size, self.width = size or self.size, width or self.width
        out_shape = (self.size, self.size, self.width if channels is None else in_shape[2])
        norm = self.norm if norm is None else norm
        self.found.append(
            Node(name, slot, kind, op.name, op.settings, norm, in_shape, out_shape, inputs or (self.at,), channels, self.index)
        )
        self.at = name

    def stem(self) -> None:
        stem = self.architecture.stem
        width = self.architecture.stages[0].width
        operator(Kind.STEM, stem.name).check(dict(stem.settings), width, self.architecture.resolution)
        stride = int(dict(stem.settings)["stride"])
        self._shrink(stride, "stem")
        self.add("stem", "stem", Kind.STEM, stem, size=self.size // stride, width=width)

    def stage(self, index: int, stage: Stage) -> None:
        self.norm, self.index = stage.norm, index
        operator(Kind.NORM, stage.norm)
        if stage.downsample is not None:
            operator(Kind.DOWNSAMPLE, stage.downsample.name).check(dict(stage.downsample.settings), stage.width, self.size)
            self._shrink(2, f"the downsample before stage {index}")
            name = f"s{index}_downsample"
            self.add(name, name, Kind.DOWNSAMPLE, stage.downsample, size=self.size // 2, width=stage.width)
        for number, block in enumerate(stage.blocks):
            self.block(f"s{index}b{number}", block, stage.width)

    def block(self, name: str, block: Block, stage_width: int) -> None:
        width = block.width or stage_width
        if width != self.width:
            self.add(f"{name}_projection", f"{name}_projection", PROJECTION, Op("linear"), width=width)
        if len(block.mixers) == 1:
            self._check(Kind.TOKEN_MIXER, block.mixers[0], width)
            self.add(f"{name}_mixer", f"{name}_mixer", Kind.TOKEN_MIXER, block.mixers[0])
        else:
            self.parallel(name, block, width)
        if block.channel_mixer is not None:
            self._check(Kind.CHANNEL_MIXER, block.channel_mixer, width)
            self.add(f"{name}_channel", f"{name}_channel", Kind.CHANNEL_MIXER, block.channel_mixer)

    def parallel(self, name: str, block: Block, width: int) -> None:
        before, start = self.at, 0
        first, second = branch_widths(width, block.split)
        if block.split != first / width:
            raise SpaceError(
                f"split={block.split!r} of {width} channels must be the exact share of the first mixer, {first / width!r}"
            )
        self.add(f"{name}_split", f"{name}_mixer", SPLIT, Op("norm"))
        for branch, (op, part) in enumerate(zip(block.mixers, (first, second), strict=True)):
            self._check(Kind.TOKEN_MIXER, op, part)
            slot = f"{name}_mixer" if branch == 0 else f"{name}_partner"
            channels = (start, start + part)
            self.add(f"{name}_branch{branch}", slot, BRANCH, op, inputs=(f"{name}_split",), channels=channels, norm="")
            start += part
        inputs = (before, f"{name}_branch0", f"{name}_branch1")
        self.add(f"{name}_concat", f"{name}_mixer", CONCAT, Op("add"), inputs=inputs, norm="")

    def head(self) -> None:
        self.index = None
        self.add("head", "head", HEAD, Op("average_pool"), size=1, width=self.num_classes)

    def _check(self, kind: Kind, op: Op, width: int) -> None:
        operator(kind, op.name).check(dict(op.settings), width, self.built_size)

    def _shrink(self, stride: int, where: str) -> None:
        if self.built_size % stride or self.size < stride:
            raise SpaceError(f"{where} divides the map by {stride}, but it is {self.built_size}x{self.built_size}")
        self.built_size //= stride
