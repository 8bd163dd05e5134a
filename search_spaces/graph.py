"""The one graph of an architecture: what is built, shared, costed, timed, encoded and drawn.

`nodes(architecture)` is the only place where shapes are derived. Node kinds beyond the operators' own: `split` (the norm
before two parallel mixers), `branch` (a mixer on part of the channels), `concat` (joins the branches and adds the
residual), `projection` (a change of width inside a stage) and `context` (the overview branch's map for one stage). A node
of kind `norm` is a norm that stands alone, one of kind `residual` the mixture that ends a stage of attention residuals.
What an operator emits beside its map may be read by later ones of its stage (`emitted_shape`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import networkx as nx

from nas.errors import SpaceError
from nas.search_spaces.architecture import LAYER_SCALE, Architecture, Block, Op, Stage
from nas.search_spaces.registry import Kind, Operator, Settings, Value, operator

IMAGE = "image"
SPLIT, BRANCH, CONCAT, PROJECTION, CONTEXT = "split", "branch", "concat", "projection", "context"
HEAD = Kind.HEAD.value
SUMMARY, POSITIONS, OVERVIEW = "summary", "positions", "overview"
SUMMARY_STRIDE = 4
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """One unit of a network, of one example's shapes (height, width, channels).

    `slot` is the place whose weights it shares in a supernet, `channels` the part of its input's channels a branch reads,
    `inputs` the names of what it reads (`NODE:summary` for what NODE returns beside its map), `side` the shapes of the
    inputs behind the first where an operator asks for them, `stage` the index of the stage it belongs to (None for stem,
    head and the overview). `residual` joins a mixer to the stream, `emits` names what it returns beside its map. Nodes with
    equal `key` do the same work and take the same time.
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
    residual: str = ""
    side: tuple[Shape, ...] = ()
    emits: str = ""

    @property
    def key(self) -> str:
        """Everything that decides the node's work, as text."""
        settings = ",".join(f"{k}={v}" for k, v in self.settings)
        shapes = "->".join("x".join(map(str, shape)) for shape in (self.in_shape, self.out_shape))
        part = "" if self.channels is None else f"[{self.channels[0]}:{self.channels[1]}]"
        joined = "" if self.residual in ("", str(LAYER_SCALE)) else f"~{self.residual}"
        beside = "".join("+" + "x".join(map(str, shape)) for shape in self.side)
        return f"{self.kind}:{self.operator}({settings}):{self.norm}:{shapes}{part}{joined}{beside}"

    @property
    def size(self) -> int:
        """The side of the map it reads, as operators are told it: the columns where it has one row."""
        return self.in_shape[1] if self.in_shape[0] == 1 else self.in_shape[0]


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
        if index and index == architecture.overview_at:
            walk.overview()
        walk.stage(f"s{index}", stage, index)
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
            residual=node.residual,
            slot=node.slot,
            in_shape=node.in_shape,
            out_shape=node.out_shape,
        )
        if node.emits:
            shapes[f"{node.name}:{node.emits}"] = emitted_shape(node.emits, node.out_shape, dict(node.settings))
        for source in node.inputs:
            origin, _, emitted = source.partition(":")
            if not (emitted and graph.has_edge(origin, node.name)):
                graph.add_edge(origin, node.name, shape=shapes[source])
    return nx.freeze(graph)


def emitted_shape(emits: str, shape: Shape, settings: Mapping[str, Value]) -> Shape:
    """The shape of what is emitted under that name beside a map of `shape`; its readers ask for the same with their settings.

    "summary" is a coarse map, one place for each 4 x 4; "positions" holds a bias for each head and pair of a query and a key,
    keys lying `reduction` apart; what else there is has one value for each position ("significance").
    """
    height, width, channels = shape
    if emits == SUMMARY:
        return -(-height // SUMMARY_STRIDE), -(-width // SUMMARY_STRIDE), channels
    if emits == POSITIONS:
        reduction = int(settings["reduction"])
        return int(settings["heads"]), height * width, -(-height // reduction) * -(-width // reduction)
    return height, width, 1


def branch_widths(width: int, split: float) -> tuple[int, int]:
    """Channels of the two branches: `split` of the width in steps of 8, at least 8 on each side.

    Raises SpaceError where the width is below 16.
    """
    if width < 16:
        raise SpaceError(f"two parallel mixers need at least 16 channels, got {width}")
    first = min(max(8, round(width * split / 8) * 8), width - 8)
    return first, width - first


def joins_branches(residual: str) -> bool:
    """Whether a residual norms before its operator alone, so that two parallel operators may stand there."""
    from nas.search_spaces.layers import Residual

    return operator(Kind.RESIDUAL, residual).module.forward is Residual.forward


class _Walk:
    """The state of one walk: the current tensor, its map and width, and what later nodes of the stage may read beside it."""

    def __init__(self, architecture: Architecture, resolution: int, in_channels: int, num_classes: int) -> None:
        self.architecture, self.num_classes = architecture, num_classes
        self.found: list[Node] = []
        self.at = IMAGE
        self.map, self.built = (resolution, resolution), (architecture.resolution, architecture.resolution)
        self.width = in_channels
        self.index: int | None = None
        self.shapes: dict[str, Shape] = {}
        self.values: list[str] = []
        self.earlier: list[str] = []
        self.emitted: list[str] = []
        self.context = ""
        self.seen: dict[str, str] = {}

    @property
    def shape(self) -> Shape:
        """Of the current tensor."""
        return (*self.map, self.width)

    def add(
        self, name: str, kind: str, op: Op, norm: str, *, slot: str | None = None, after: tuple[int, int] | None = None,
        width: int | None = None, inputs: tuple[str, ...] | None = None, channels: tuple[int, int] | None = None,
        residual: Op | None = None, side: tuple[str, ...] = (), emits: str = "",
    ) -> None:  # fmt: skip
        """Append a node that reads the current tensor and becomes it."""
        in_shape = self.shape if channels is None else (*self.map, channels[1] - channels[0])
        self.map, self.width = after or self.map, width or self.width
        out_shape = self.shape if channels is None else (*self.map, in_shape[2])
        self.found.append(
            Node(
                name,
                slot or name,
                kind,
                op.name,
                op.settings,
                norm,
                in_shape,
                out_shape,
                (inputs or (self.at,)) + side,
                channels,
                self.index,
                "" if residual is None else str(residual),
                tuple(self.shapes[source] for source in side),
                emits,
            )
        )
        self.shapes[name] = out_shape
        self.at = name

    def stem(self) -> None:
        stem, first = self.architecture.stem, self.architecture.stages[0]
        norm = first.norm if self.architecture.stem_norm is None else self.architecture.stem_norm
        operator(Kind.STEM, stem.name).check(dict(stem.settings), first.width, self.architecture.resolution)
        after = self._shrink(Kind.STEM, stem, "stem")
        self._norm(norm, first.width)
        self.add("stem", Kind.STEM, stem, norm, after=after, width=first.width)

    def overview(self) -> None:
        """The overview branch; the stream then goes on from where it left."""
        kept = self.at, self.map, self.built, self.width, self.index
        self.index = None
        for number, stage in enumerate(self.architecture.overview):
            self.stage(f"overview{number}", stage, None)
        self.context = self.at
        self.at, self.map, self.built, self.width, self.index = kept

    def stage(self, name: str, stage: Stage, index: int | None) -> None:
        self.index, self.emitted, self.seen = index, [], {}
        if stage.downsample is not None:
            norm = stage.norm if stage.downsample_norm is None else stage.downsample_norm
            operator(Kind.DOWNSAMPLE, stage.downsample.name).check(
                dict(stage.downsample.settings), stage.width, _side(self.built)
            )
            self._norm(norm, self.width)
            self._leaves_channels(stage.downsample, stage.width)
            side = self._side(operator(Kind.DOWNSAMPLE, stage.downsample.name), stage.downsample, stage.width - self.width)
            after = self._shrink(Kind.DOWNSAMPLE, stage.downsample, f"the downsample before stage {name.lstrip('s')}")
            self.add(f"{name}_downsample", Kind.DOWNSAMPLE, stage.downsample, norm, after=after, width=stage.width, side=side)
        self._norm(stage.norm, self.width)
        self.earlier, self.values = [], []
        for number, block in enumerate(stage.blocks):
            self.block(f"{name}b{number}", block, stage, block.residual or stage.residual or LAYER_SCALE)
            self.earlier.append(self.at)
        last = Op.parse(self.found[-1].residual or str(LAYER_SCALE))
        if operator(Kind.RESIDUAL, last.name).side:
            self.add(f"{name}_end", Kind.RESIDUAL, Op(last.name), "", side=self._history(self.values, last))

    def _leaves_channels(self, downsample: Op, width: int) -> None:
        """Raise SpaceError where a downsample has no channels left for what comes in beside the overview."""
        carried = int(dict(downsample.settings).get("carried", 0))
        if carried and carried >= self.width:
            raise SpaceError(f"{downsample} carries {carried} channels, but only {self.width} come in: carry fewer")
        if operator(Kind.DOWNSAMPLE, downsample.name).side == OVERVIEW and width < self.width:
            raise SpaceError(
                f"{downsample} keeps all {self.width} channels that come in, but the stage has {width}: widen the stage"
            )

    def block(self, name: str, block: Block, stage: Stage, residual: Op) -> None:
        width, norm = block.width or stage.width, stage.norm if block.norm is None else block.norm
        if width != self.width:
            self._norm(norm, self.width)
            self.add(f"{name}_projection", PROJECTION, Op("linear"), norm, width=width)
            self.earlier, self.values = [], []
        self._norm(norm, width)
        operator(Kind.RESIDUAL, residual.name).check(dict(residual.settings), width, _side(self.built))
        if len(block.mixers) == 1:
            self.mixer(f"{name}_mixer", Kind.TOKEN_MIXER, block.mixers[0], norm, residual)
        elif block.mixers:
            self.parallel(name, block, norm, residual)
        if block.channel_mixer is not None:
            follows = _continued(residual) if block.mixers else residual
            self.mixer(f"{name}_channel", Kind.CHANNEL_MIXER, block.channel_mixer, norm, follows)
        elif not block.mixers:
            alone = Op.parse(norm)
            self.add(f"{name}_norm", Kind.NORM, alone, norm)

    def mixer(self, name: str, kind: Kind, op: Op, norm: str, residual: Op) -> None:
        """A mixer in its residual; an attention residual reads the history itself and leaves its mixer nothing to read."""
        self._check(kind, op, self.width)
        known, joins = operator(kind, op.name), operator(Kind.RESIDUAL, residual.name)
        if joins.side:
            begins = ("form", "sum") not in residual.settings
            side = self._history([name for name in self.values if name != self.at], residual)
            if begins:
                self.values.append(self.at)
        else:
            side = self._side(known, op, int(dict(op.settings).get("carried", 0)))
        self.add(name, kind, op, norm, residual=residual, side=side, emits=known.emits)
        if known.emits:
            self.emitted.append(f"{name}:{known.emits}")
            self.shapes[self.emitted[-1]] = emitted_shape(known.emits, self.shape, known.complete(op.settings))

    def parallel(self, name: str, block: Block, norm: str, residual: Op) -> None:
        before, start, width = self.at, 0, self.width
        if not joins_branches(residual.name):
            raise SpaceError(
                f"two parallel mixers cannot be joined by {residual.name!r}, which does not norm before them alone"
            )
        first, second = branch_widths(width, block.split)
        if block.split != first / width:
            raise SpaceError(
                f"split={block.split!r} of {width} channels must be the exact share of the first mixer, {first / width!r}"
            )
        slot = f"{name}_mixer"
        self.add(f"{name}_split", SPLIT, Op("norm"), norm, slot=slot)
        for branch, (op, part) in enumerate(zip(block.mixers, (first, second), strict=True)):
            self._check(Kind.TOKEN_MIXER, op, part)
            of = slot if branch == 0 else f"{name}_partner"
            channels = (start, start + part)
            self.add(f"{name}_branch{branch}", BRANCH, op, "", slot=of, inputs=(f"{name}_split",), channels=channels)
            start += part
        inputs = (before, f"{name}_branch0", f"{name}_branch1")
        self.add(f"{name}_concat", CONCAT, Op("add"), "", slot=slot, inputs=inputs, residual=residual)

    def head(self) -> None:
        self.index = None
        head, last = self.architecture.head, self.architecture.stages[-1]
        norm = last.norm if self.architecture.head_norm is None else self.architecture.head_norm
        self._check(Kind.HEAD, head, self.width)
        self._norm(norm, self.width)
        if self.context and not any(node.kind == CONTEXT for node in self.found):
            raise SpaceError("no operator reads the overview: leave it out, or choose a mixer that reads a context behind it")
        self.add("head", HEAD, head, norm, after=(1, 1), width=self.num_classes)

    def _side(self, known: Operator, op: Op, carried: int) -> tuple[str, ...]:
        """The names of what an operator reads beside the current tensor, as far as there is any.

        `carried` is how many channels of an overview it can take as they are.
        """
        wanted = known.side
        if wanted == "history":
            return self._history(self.earlier, op)
        if wanted in (CONTEXT, OVERVIEW):
            return (self._seen(wanted, op, carried),) if self.context else ()
        if not wanted:
            return ()
        shape = emitted_shape(wanted, self.shape, known.complete(op.settings))
        found = [name for name in self.emitted if name.endswith(f":{wanted}") and self.shapes[name] == shape]
        return tuple(found[-int(dict(op.settings).get("depth", 1)) :])

    def _history(self, names: list[str], op: Op) -> tuple[str, ...]:
        """The latest of the names that an operator wants, of the current shape."""
        depth = dict(op.settings).get("depth")
        found = [name for name in names if self.shapes[name] == self.shape]
        return tuple(found[-int(depth) :] if depth else found)

    def _seen(self, wanted: str, op: Op, carried: int) -> str:
        """The overview's map as the current stage sees it, made where the first of its operators asks for it.

        A context has the width of the stream, an overview its own, `carried`.
        """
        source = self.shapes[self.context]
        shape = self.shape if wanted == CONTEXT else (*self.map, source[2])
        if wanted == OVERVIEW and source[2] != carried:
            raise SpaceError(f"{op} takes {carried} channels of an overview, which gives {source[2]}")
        known = self.seen.get(wanted)
        if known is None or self.shapes[known] != shape:
            known, how = f"{self.at}_{wanted}", "linear" if wanted == CONTEXT else "resize"
            inputs, slot = (self.context, self.at), f"s{self.index}_{wanted}"
            self.found.append(
                Node(known, slot, CONTEXT, how, (), "", source, shape, inputs, None, self.index, side=(self.shape,))
            )
            self.shapes[known] = shape
            self.seen[wanted] = known
        return known

    def _norm(self, text: str, width: int) -> None:
        norm = Op.parse(text)
        operator(Kind.NORM, norm.name).check(dict(norm.settings), width, _side(self.built))

    def _check(self, kind: Kind, op: Op, width: int) -> None:
        _check(kind, op.name, op.settings, tuple(type(value) for _, value in op.settings), width, _side(self.built))

    def _shrink(self, kind: Kind, op: Op, where: str) -> tuple[int, int]:
        """The map after a stem or downsample, the one it was built for being brought along."""
        known, (height, width) = operator(kind, op.name), self.built
        stride = int(known.complete(op.settings).get("stride", 2))
        if known.out_map is None and (height % stride or width % stride or min(self.map) < stride):
            raise SpaceError(f"{where} divides the map by {stride}, but it is {height}x{width}")
        self.built, after = (known.map_after(*shape, op.settings) for shape in (self.built, self.map))
        if min(*after, *self.built) < 1:
            raise SpaceError(f"{where} leaves nothing of a map of {height}x{width}")
        return after


@lru_cache(maxsize=65536)
def _check(kind: Kind, name: str, settings: Settings, types: tuple[type, ...], width: int, size: int) -> None:
    """Raise SpaceError where a setting is illegal; what is legal is remembered, since the rules take most of a walk's time.

    `types` are those of the values: 1 and True are equal, and only one of them is legal.
    """
    operator(kind, name).check(dict(settings), width, size)


def _side(shape: tuple[int, int]) -> int:
    """The side of a map, as operators are told it: the columns where it has one row."""
    return shape[1] if shape[0] == 1 else shape[0]


def _continued(residual: Op) -> Op:
    """The residual of a block's later operators: in the block form of attention residuals they continue the block's sum."""
    return Op.of(residual.name, form="sum") if ("form", "block") in residual.settings else residual
