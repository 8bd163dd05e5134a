"""`Architecture`: the immutable value that names one concrete backbone, its canonical JSON and its digest."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NoReturn, Self

from nas.errors import SpaceError
from nas.search_spaces.registry import Settings, Value

if TYPE_CHECKING:
    import networkx as nx

FORMAT = "nas-architecture"
VERSION = 1


@dataclass(frozen=True)
class Op:
    """A registered operator by name, with its settings as sorted pairs."""

    name: str
    settings: Settings = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", tuple(sorted((str(k), v) for k, v in self.settings)))

    @classmethod
    def of(cls, name: str, **settings: Value) -> Self:
        """`Op.of("depthwise_conv", kernel=7, dilation=1)`."""
        return cls(name, tuple(settings.items()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The operator that `str` writes: `layer`, `layer(eps=1e-05)`. Raises SpaceError for any other text.

        Values are read as truth values, whole numbers and numbers where they look like one, else as names.
        """
        name, bracket, rest = text.partition("(")
        if not name or (bracket and not rest.endswith(")")):
            raise SpaceError(f"not an operator: {text!r}; write a name, or a name with settings as in 'layer(eps=1e-05)'")
        pairs = [pair.partition("=") for pair in rest[:-1].split(",") if pair.strip()]
        if any(not equals or not key.strip() or not value.strip() for key, equals, value in pairs):
            raise SpaceError(f"not an operator: the settings of {text!r} are not name=value")
        return cls(name, tuple((key.strip(), _value(value.strip())) for key, _, value in pairs))

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.settings)})" if self.settings else self.name


LAYER_SCALE, AVERAGE_POOL = Op("layer_scale"), Op("average_pool")
"""How a mixer joins the stream, and what reads the logits, where an architecture says nothing of it."""


@dataclass(frozen=True)
class Block:
    """A token mixer and a channel mixer, each with a norm before it and a residual around it.

    `mixers` holds one operator, or two that run in parallel on the first `split` of the channels and on the rest, or none
    beside a channel mixer. `width` is the block's own number of channels where it differs from its stage's (as in Next-ViT),
    `residual` and `norm` are its own where they differ from its stage's. A block of nothing but a norm is that norm.
    """

    mixers: tuple[Op, ...]
    channel_mixer: Op | None
    split: float = 1.0
    width: int | None = None
    residual: Op | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "norm", _canonical(self.norm))
        if len(self.mixers) not in (0, 1, 2) or not (self.mixers or self.channel_mixer or self.norm):
            raise SpaceError(f"a block has one token mixer or two in parallel, got {len(self.mixers)}")
        if not (self.mixers or self.channel_mixer):
            object.__setattr__(self, "residual", None)
        if (len(self.mixers) == 2) != (0.0 < self.split < 1.0):
            raise SpaceError(f"split={self.split!r} must lie between 0 and 1 for two mixers and be 1.0 for one")


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution. `downsample` halves the map before them; only the first stage has none.

    `norm` may carry settings: `layer(eps=1e-05)`. `residual` joins the blocks' mixers to the stream (None: layer scale),
    `downsample_norm` is the norm before the downsample where it is not `norm`. What a block repeats of its stage is
    dropped, so that one network has one value.
    """

    width: int
    norm: str
    downsample: Op | None
    blocks: tuple[Block, ...]
    residual: Op | None = None
    downsample_norm: str | None = None

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SpaceError(f"the width of a stage is at least 1, got {self.width}")
        if not self.blocks:
            raise SpaceError("a stage has at least one block")
        object.__setattr__(self, "norm", _canonical(self.norm))
        object.__setattr__(self, "residual", None if self.residual == LAYER_SCALE else self.residual)
        before = _canonical(self.downsample_norm)
        object.__setattr__(self, "downsample_norm", None if before == self.norm or self.downsample is None else before)
        object.__setattr__(self, "blocks", tuple(self._without_repeats(block) for block in self.blocks))

    def _without_repeats(self, block: Block) -> Block:
        found = replace(
            block,
            width=None if block.width == self.width else block.width,
            residual=None if block.residual == (self.residual or LAYER_SCALE) else block.residual,
            norm=None if block.norm == self.norm and (block.mixers or block.channel_mixer) else block.norm,
        )
        return block if found == block else found


@dataclass(frozen=True)
class Architecture:
    """One concrete backbone: the input resolution it is meant for, its stem, its stages and its head.

    `stem_norm` follows the stem where it is not the first stage's norm, `head_norm` stands in the head where it is not the
    last stage's. `overview` is a branch that reads the output of the first `overview_at` stages and whose result later
    operators may read as context (OverLoCK, arXiv:2502.20087). Choices that play no part do not exist in it, so two
    genotypes that mean the same network have one `digest`.
    """

    resolution: int
    stem: Op
    stages: tuple[Stage, ...]
    head: Op = AVERAGE_POOL
    stem_norm: str | None = None
    head_norm: str | None = None
    overview: tuple[Stage, ...] = ()
    overview_at: int = 0

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpaceError("an architecture has at least one stage")
        before, after = _canonical(self.stem_norm), _canonical(self.head_norm)
        object.__setattr__(self, "stem_norm", None if before == self.stages[0].norm else before)
        object.__setattr__(self, "head_norm", None if after == self.stages[-1].norm else after)
        if bool(self.overview) != (1 <= self.overview_at < len(self.stages)):
            raise SpaceError(
                f"overview_at={self.overview_at!r} must leave stages before and behind it where there is an overview, else be 0"
            )
        for index, stage in enumerate(self.stages):
            if (stage.downsample is None) != (index == 0):
                raise SpaceError("every stage but the first begins with a downsample, and the first has none")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, nothing that can be derived."""
        return json.dumps(self.to_mapping(), sort_keys=True, separators=(",", ":"))

    def to_mapping(self) -> dict[str, Any]:
        """Plain dictionaries and lists, as in the JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "resolution": self.resolution,
            "stem": _op_mapping(self.stem),
            "stages": [_stage_mapping(stage) for stage in self.stages],
        } | _given(
            head=None if self.head == AVERAGE_POOL else _op_mapping(self.head),
            stem_norm=self.stem_norm,
            head_norm=self.head_norm,
            overview=[_stage_mapping(stage) for stage in self.overview],
            overview_at=self.overview_at,
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The architecture written by `to_json`. Raises SpaceError for anything else, naming what is wrong."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpaceError(f"not an architecture: not JSON ({error})") from error
        return cls.from_mapping(data)

    @classmethod
    def from_mapping(cls, data: Any) -> Self:
        """As `from_json`, from decoded JSON. The operators' rules are checked too."""
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise SpaceError(f'not an architecture: the JSON has no "format": "{FORMAT}"')
        if data.get("version") != VERSION:
            raise SpaceError(f"architecture format version {data.get('version')!r} is not {VERSION}: update nas")
        fields = _fields(
            data,
            "architecture",
            {"format", "version", "resolution", "stem", "stages"},
            {"head": None, "stem_norm": None, "head_norm": None, "overview": [], "overview_at": None},
        )
        found = cls(
            _integer(fields["resolution"], "resolution"),
            _op(fields["stem"], "stem"),
            _stages(fields["stages"], "stages"),
            _optional_op(fields["head"], "head") or AVERAGE_POOL,
            _optional_name(fields["stem_norm"], "stem_norm"),
            _optional_name(fields["head_norm"], "head_norm"),
            _stages(fields["overview"], "overview"),
            0 if fields["overview_at"] is None else _integer(fields["overview_at"], "overview_at"),
        )
        found.check()
        return found

    def check(self) -> None:
        """Raise SpaceError where an operator is unknown or a setting is illegal at its place."""
        from nas.search_spaces.graph import nodes

        nodes(self)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal characters of blake2b over the canonical JSON; the same in every process."""
        return blake2b(self.to_json().encode(), digest_size=8).hexdigest()

    def graph(self, resolution: int | None = None, in_channels: int = 3, num_classes: int = 1000) -> nx.DiGraph:
        """The frozen networkx graph of its nodes at `resolution` (default: its own); see `nas.search_spaces.graph`."""
        from nas.search_spaces.graph import to_networkx

        return to_networkx(self, resolution, in_channels, num_classes)

    @property
    def depth(self) -> int:
        """Blocks in all stages."""
        return sum(len(stage.blocks) for stage in self.stages)


def _op_mapping(op: Op | None) -> dict[str, Any] | None:
    return None if op is None else {"operator": op.name, "settings": dict(op.settings)}


def _stage_mapping(stage: Stage) -> dict[str, Any]:
    blocks = [
        {
            "mixers": [_op_mapping(op) for op in block.mixers],
            "split": block.split,
            "channel_mixer": _op_mapping(block.channel_mixer),
            "width": block.width,
        }
        | _given(residual=_op_mapping(block.residual), norm=block.norm)
        for block in stage.blocks
    ]
    plain = {"width": stage.width, "norm": stage.norm, "downsample": _op_mapping(stage.downsample), "blocks": blocks}
    return plain | _given(residual=_op_mapping(stage.residual), downsample_norm=stage.downsample_norm)


def _given(**fields: Any) -> dict[str, Any]:
    """The later fields of the format, of which only those are written that say something."""
    return {name: value for name, value in fields.items() if value}


def _canonical(norm: str | None) -> str | None:
    """A norm with its settings as `Op` writes them, so that one norm has one text."""
    return str(Op.parse(norm)) if norm is not None and "(" in norm else norm


def _value(text: str) -> Value:
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _stages(data: Any, where: str) -> tuple[Stage, ...]:
    return tuple(_stage(item, f"{where}[{i}]") for i, item in enumerate(_list(data, where)))


def _stage(data: Any, where: str) -> Stage:
    fields = _fields(data, where, {"width", "norm", "downsample", "blocks"}, {"residual": None, "downsample_norm": None})
    if not isinstance(fields["norm"], str):
        _wrong(f"{where}.norm", "a name", fields["norm"])
    blocks = _list(fields["blocks"], f"{where}.blocks")
    return Stage(
        _integer(fields["width"], f"{where}.width"),
        fields["norm"],
        _optional_op(fields["downsample"], f"{where}.downsample"),
        tuple(_block(item, f"{where}.blocks[{i}]") for i, item in enumerate(blocks)),
        _optional_op(fields["residual"], f"{where}.residual"),
        _optional_name(fields["downsample_norm"], f"{where}.downsample_norm"),
    )


def _block(data: Any, where: str) -> Block:
    fields = _fields(data, where, {"mixers", "split", "channel_mixer", "width"}, {"residual": None, "norm": None})
    if not isinstance(fields["split"], (int, float)) or isinstance(fields["split"], bool):
        _wrong(f"{where}.split", "a number", fields["split"])
    return Block(
        tuple(_op(item, f"{where}.mixers[{i}]") for i, item in enumerate(_list(fields["mixers"], f"{where}.mixers"))),
        _optional_op(fields["channel_mixer"], f"{where}.channel_mixer"),
        float(fields["split"]),
        None if fields["width"] is None else _integer(fields["width"], f"{where}.width"),
        _optional_op(fields["residual"], f"{where}.residual"),
        _optional_name(fields["norm"], f"{where}.norm"),
    )


def _optional_op(data: Any, where: str) -> Op | None:
    return None if data is None else _op(data, where)


def _optional_name(data: Any, where: str) -> str | None:
    if data is not None and not isinstance(data, str):
        _wrong(where, "a name", data)
    return data


def _op(data: Any, where: str) -> Op:
    fields = _fields(data, where, {"operator", "settings"})
    if not isinstance(fields["operator"], str) or not isinstance(fields["settings"], Mapping):
        _wrong(where, "an operator with settings", data)
    for name, value in fields["settings"].items():
        if not isinstance(value, (int, float, str, bool)):
            _wrong(f"{where}.settings.{name}", "a number, a name or a truth value", value)
    return Op(fields["operator"], tuple(fields["settings"].items()))


def _fields(data: Any, where: str, wanted: set[str], optional: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    """The fields of an object, with the defaults of the optional ones that it lacks."""
    if not isinstance(data, Mapping):
        _wrong(where, "an object", data)
    defaults = optional or {}
    missing, extra = sorted(wanted - data.keys()), sorted(data.keys() - wanted - defaults.keys())
    if missing or extra:
        raise SpaceError(f"not an architecture: {where} lacks {missing or 'nothing'} and has {extra or 'nothing'} too much")
    return {**defaults, **data}


def _list(data: Any, where: str) -> list[Any]:
    if not isinstance(data, list):
        _wrong(where, "a list", data)
    return data


def _integer(data: Any, where: str) -> int:
    if not isinstance(data, int) or isinstance(data, bool) or data < 1:
        _wrong(where, "a whole number above zero", data)
    return data


def _wrong(where: str, wanted: str, value: Any) -> NoReturn:
    raise SpaceError(f"not an architecture: {where} must be {wanted}, got {value!r}")
