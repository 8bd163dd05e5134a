"""`Architecture`: the immutable value that names one concrete backbone, its canonical JSON and its digest."""

from __future__ import annotations

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

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.settings)})" if self.settings else self.name


@dataclass(frozen=True)
class Block:
    """A token mixer and a channel mixer, each with a norm before it and a residual around it.

    `mixers` holds one operator, or two that run in parallel on the first `split` of the channels and on the rest.
    `width` is the block's own number of channels where it differs from its stage's (as in Next-ViT).
    """

    mixers: tuple[Op, ...]
    channel_mixer: Op | None
    split: float = 1.0
    width: int | None = None

    def __post_init__(self) -> None:
        if len(self.mixers) not in (1, 2):
            raise SpaceError(f"a block has one token mixer or two in parallel, got {len(self.mixers)}")
        if (len(self.mixers) == 2) != (0.0 < self.split < 1.0):
            raise SpaceError(f"split={self.split!r} must lie between 0 and 1 for two mixers and be 1.0 for one")


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution. `downsample` halves the map before them; only the first stage has none.

    A block's own width that equals the stage's is dropped, so that one network has one value.
    """

    width: int
    norm: str
    downsample: Op | None
    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SpaceError(f"the width of a stage is at least 1, got {self.width}")
        if not self.blocks:
            raise SpaceError("a stage has at least one block")
        same = tuple(replace(block, width=None) if block.width == self.width else block for block in self.blocks)
        object.__setattr__(self, "blocks", same)


@dataclass(frozen=True)
class Architecture:
    """One concrete backbone: the input resolution it is meant for, its stem, and its stages.

    Choices that play no part do not exist in it, so two genotypes that mean the same network have one `digest`.
    """

    resolution: int
    stem: Op
    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise SpaceError("an architecture has at least one stage")
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
        }

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
        fields = _fields(data, "architecture", {"format", "version", "resolution", "stem", "stages"})
        found = cls(
            _integer(fields["resolution"], "resolution"),
            _op(fields["stem"], "stem"),
            tuple(_stage(item, f"stages[{i}]") for i, item in enumerate(_list(fields["stages"], "stages"))),
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
        for block in stage.blocks
    ]
    return {"width": stage.width, "norm": stage.norm, "downsample": _op_mapping(stage.downsample), "blocks": blocks}


def _stage(data: Any, where: str) -> Stage:
    fields = _fields(data, where, {"width", "norm", "downsample", "blocks"})
    if not isinstance(fields["norm"], str):
        _wrong(f"{where}.norm", "a name", fields["norm"])
    blocks = _list(fields["blocks"], f"{where}.blocks")
    return Stage(
        _integer(fields["width"], f"{where}.width"),
        fields["norm"],
        None if fields["downsample"] is None else _op(fields["downsample"], f"{where}.downsample"),
        tuple(_block(item, f"{where}.blocks[{i}]") for i, item in enumerate(blocks)),
    )


def _block(data: Any, where: str) -> Block:
    fields = _fields(data, where, {"mixers", "split", "channel_mixer", "width"})
    if not isinstance(fields["split"], (int, float)) or isinstance(fields["split"], bool):
        _wrong(f"{where}.split", "a number", fields["split"])
    channel = fields["channel_mixer"]
    return Block(
        tuple(_op(item, f"{where}.mixers[{i}]") for i, item in enumerate(_list(fields["mixers"], f"{where}.mixers"))),
        None if channel is None else _op(channel, f"{where}.channel_mixer"),
        float(fields["split"]),
        None if fields["width"] is None else _integer(fields["width"], f"{where}.width"),
    )


def _op(data: Any, where: str) -> Op:
    fields = _fields(data, where, {"operator", "settings"})
    if not isinstance(fields["operator"], str) or not isinstance(fields["settings"], Mapping):
        _wrong(where, "an operator with settings", data)
    for name, value in fields["settings"].items():
        if not isinstance(value, (int, float, str, bool)):
            _wrong(f"{where}.settings.{name}", "a number, a name or a truth value", value)
    return Op(fields["operator"], tuple(fields["settings"].items()))


def _fields(data: Any, where: str, wanted: set[str]) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        _wrong(where, "an object", data)
    if data.keys() != wanted:
        missing, extra = sorted(wanted - data.keys()), sorted(data.keys() - wanted)
        raise SpaceError(f"not an architecture: {where} lacks {missing or 'nothing'} and has {extra or 'nothing'} too much")
    return data


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
