"""The registry of operators: one declaration for spaces, builder, cost, tests, docs and the command line.

An operator is a plain `nn.Module` in a file of its own, announced with `@register(...)`. Nothing in that module knows of
search or weight sharing. Third parties announce theirs through the entry-point group `nas.operators`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, TypeVar, cast

from nas.errors import SpaceError, UnknownNameError
from nas.plugins import discover

if TYPE_CHECKING:
    from torch import nn

Value = int | float | str | bool
Settings = tuple[tuple[str, Value], ...]
OutMap = Callable[[int, int, Mapping[str, Value]], tuple[int, int]]
"""`(height, width, settings)` of a map, all settings given -> its height and width after the operator."""
M = TypeVar("M", bound="type[nn.Module]")


class Kind(StrEnum):
    """What an operator is for, and with it the signature of its constructor.

    TOKEN_MIXER and CHANNEL_MIXER: `(width, size, **settings)`, (B, H, W, C) -> (B, H, W, C).
    STEM: `(in_channels, width, **settings)`, (B, in_channels, H, W) -> (B, H/stride, W/stride, width).
    DOWNSAMPLE: `(in_width, width, **settings)`, (B, H, W, in_width) -> (B, H/2, W/2, width).
    Stems and downsamples that do something else to the map are registered with `out_map`; those that hold something of the
    map's size with `sized=True`, and take it as third argument: `(in_width, width, size, **settings)`.
    NORM: `(width, **settings)`, (B, H, W, C) -> (B, H, W, C).
    RESIDUAL: `(norm, op, width, **settings)`, two modules and how `op` joins the stream: (B, H, W, C) -> (B, H, W, C).
    HEAD: `(norm, width, size, num_classes, **settings)`, (B, H, W, C) -> (B, num_classes).
    """

    TOKEN_MIXER = "token_mixer"
    CHANNEL_MIXER = "channel_mixer"
    STEM = "stem"
    DOWNSAMPLE = "downsample"
    NORM = "norm"
    RESIDUAL = "residual"
    HEAD = "head"


class Group(StrEnum):
    """The kind of token mixing, which the rules of placement speak of."""

    CONVOLUTION = "convolution"
    ATTENTION = "attention"
    POOLING = "pooling"
    GATING = "gating"
    FREQUENCY = "frequency"
    RECURRENCE = "recurrence"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an operator is asked to work: `width` channels on a `size` x `size` map, with settings `chosen` so far."""

    width: int
    size: int
    chosen: Mapping[str, Value] = field(default_factory=dict)


def _always(value: Value, place: Place) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Setting:
    """One searchable setting: its usual choices, cheapest first, and the rule that a value must obey at a place.

    A setting with a `default` is optional: it is left out where it has that value, so that one network has one name, and it
    is searched only in spaces that list choices for it.
    """

    choices: tuple[Value, ...]
    rule: Callable[[Value, Place], bool] = _always
    because: str = "any value is legal"
    default: Value | None = None

    @property
    def usual(self) -> tuple[Value, ...]:
        """The choices of a space that says nothing of this setting."""
        return self.choices if self.default is None else (self.default,)


def one_of(*names: str, default: str | None = None) -> Setting:
    """A setting that takes one of these names, optional where it has a default."""
    return Setting(names, lambda value, place: value in names, f"it is one of {', '.join(names)}", default)


def flag(default: bool) -> Setting:
    """An optional switch."""
    return Setting((default, not default), default=default)


@dataclass(frozen=True, slots=True)
class Operator:
    """A registered operator. `family` names the parameters it shares in a supernet with its relatives.

    `side` is what a token mixer, channel mixer, residual or downsample reads beside x, where there is any, else it is called
    as `forward(x)`. "history": `forward(x, *earlier)`, the outputs of the earlier blocks of its stage that have its shape, the
    latest last, at most `depth` where it has that setting; for a residual those of the earlier operators and the stage's
    input, without x. "context": `forward(x, context)`, the overview branch's map at the size and width of x. "overview": that
    map at the size of x with its own width, which is the setting `carried`, or what a downsample adds to the channels.

    Any other is what mixers of its stage `emits` under that name by returning (y, emitted), if it has the shape that the
    operator's settings ask for (`nas.search_spaces.graph.emitted_shape`): the latest, or with a setting `depth` so many, the
    latest last. "significance": (B, H, W, 1). "summary": (B, ceil(H / 4), ceil(W / 4), C). "positions": (B, heads, N, M), a
    bias for each pair of a query and a key.
    """

    name: str
    kind: Kind
    module: type[nn.Module]
    family: str
    group: Group
    settings: Mapping[str, Setting]
    cite: str
    out_map: OutMap | None = None
    sized: bool = False
    side: str = ""
    emits: str = ""

    @property
    def summary(self) -> str:
        """The first line of the module's docstring."""
        return (self.module.__doc__ or "").strip().splitlines()[0]

    def check(self, settings: Mapping[str, Value], width: int, size: int) -> None:
        """Raise SpaceError with the rule that `settings` break for `width` channels on a `size` x `size` map."""
        needed = {name for name, setting in self.settings.items() if setting.default is None}
        if not needed <= settings.keys() <= self.settings.keys():
            optional = sorted(self.settings.keys() - needed)
            may = f" and may take {optional}" if optional else ""
            raise SpaceError(f"operator {self.name!r} takes the settings {sorted(needed)}{may}, got {sorted(settings)}")
        chosen: dict[str, Value] = {}
        for name, setting in self.settings.items():
            value = settings.get(name, setting.default)
            if type(value) not in {type(choice) for choice in setting.choices}:
                raise SpaceError(f"{name}={value!r} of {self.name!r} is no {type(setting.choices[0]).__name__}")
            if name in settings and value == setting.default:
                raise SpaceError(f"{name}={value!r} of {self.name!r} is its default: leave it out")
            if not setting.rule(cast(Value, value), Place(width, size, chosen)):
                raise SpaceError(
                    f"{name}={value!r} of {self.name!r} is illegal for {width} channels on a {size}x{size} map: "
                    f"{setting.because}"
                )
            chosen[name] = cast(Value, value)

    def map_after(self, height: int, width: int, settings: Settings) -> tuple[int, int]:
        """Height and width of a map after this stem or downsample, rounded down; below 1 where the map is too small."""
        given = self.complete(settings)
        if self.out_map is not None:
            return self.out_map(height, width, given)
        stride = {Kind.STEM: int(given.get("stride", 1)), Kind.DOWNSAMPLE: 2}.get(self.kind, 1)
        return height // stride, width // stride

    def complete(self, settings: Settings) -> dict[str, Value]:
        """`settings` with the optional ones that were left out, in the order of declaration."""
        given = dict(settings)
        return {name: given.get(name, setting.usual[0]) for name, setting in self.settings.items()}

    def repair(
        self,
        wanted: Mapping[str, Value],
        width: int,
        size: int,
        choices: Mapping[str, tuple[Value, ...]] | None = None,
    ) -> Settings | None:
        """The legal settings nearest to `wanted`, or None where none are legal at this place.

        Settings are settled in the order of declaration; each takes its wanted value if that is legal and leaves the later
        ones a legal choice, else the nearest such value of `choices` (by default the operator's own), the cheaper of two
        equally near. One rule for the whole project: genotypes are repaired, architectures written by hand are refused
        (`check`).
        """
        return self._settled(wanted, Place(width, size), choices or {})

    def _settled(self, wanted: Mapping[str, Value], place: Place, choices: Mapping[str, tuple[Value, ...]]) -> Settings | None:
        """`place.chosen` completed, without what equals a default, or None where that is impossible."""
        if len(place.chosen) == len(self.settings):
            return tuple(sorted((k, v) for k, v in place.chosen.items() if v != self.settings[k].default))
        name = list(self.settings)[len(place.chosen)]
        setting = self.settings[name]
        legal = [value for value in choices.get(name, setting.usual) if setting.rule(value, place)]
        while legal:
            value = nearest(wanted.get(name, legal[0]), legal)
            found = self._settled(wanted, Place(place.width, place.size, {**place.chosen, name: value}), choices)
            if found is not None:
                return found
            legal.remove(value)
        return None

    def legal_settings(
        self, width: int, size: int, choices: Mapping[str, tuple[Value, ...]] | None = None
    ) -> tuple[Settings, ...]:
        """All distinct legal settings at a place, in a fixed order; empty where the operator cannot work."""
        options = [(choices or {}).get(name, setting.usual) for name, setting in self.settings.items()]
        found = dict.fromkeys(
            self.repair(dict(zip(self.settings, values, strict=True)), width, size, choices)
            for values in itertools.product(*options)
        )
        return tuple(settings for settings in found if settings is not None)

    def variants(self, width: int, size: int) -> tuple[Settings, ...]:
        """Legal settings in which each optional setting takes each of its other choices, one at a time."""
        found: dict[Settings, None] = {}
        for name, setting in self.settings.items():
            for value in setting.choices if setting.default is not None else ():
                settings = self.repair({}, width, size, {name: (value,)}) if value != setting.default else None
                if settings is not None:
                    found[settings] = None
        return tuple(found)


def nearest(wanted: Value, legal: list[Value]) -> Value:
    """`wanted` if it is legal, else the nearest number below or above it, else the first legal value."""
    for value in legal:
        if value == wanted and type(value) is type(wanted):
            return value
    if isinstance(wanted, (bool, str)):
        return legal[0]
    return min(legal, key=lambda value: abs(float(value) - float(wanted)) if not isinstance(value, str) else 0.0)


ENTRY_POINTS = "nas.operators"
"""The group under which other packages announce modules that register operators."""
_REGISTRY: dict[tuple[Kind, str], Operator] = {}


def register(
    name: str,
    kind: Kind,
    *,
    cite: str,
    family: str | None = None,
    group: Group = Group.NONE,
    settings: Mapping[str, Setting] | None = None,
    out_map: OutMap | None = None,
    sized: bool = False,
    side: str = "",
    emits: str = "",
) -> Callable[[M], M]:
    """Announce a module class as operator `name`; `family` (default: the name) is whose weights it shares.

    `out_map`, `sized`, `side` and `emits` are explained at `Kind` and `Operator`.
    """

    def announce(module: M) -> M:
        known = _REGISTRY.get((kind, name))
        if known is not None and known.module.__qualname__ != module.__qualname__:
            raise SpaceError(f"{kind} {name!r} is registered twice, by {known.module} and {module}")
        _REGISTRY[kind, name] = Operator(
            name, kind, module, family or name, group, dict(settings or {}), cite, out_map, sized, side, emits
        )
        return module

    return announce


@cache
def _load() -> None:
    """Import every module below `nas.search_spaces.operators` and what other packages announce."""
    discover("nas.search_spaces.operators", ENTRY_POINTS)


def operator(kind: Kind, name: str) -> Operator:
    """The operator of that kind and name. Raises UnknownNameError with the nearest name."""
    _load()
    found = _REGISTRY.get((kind, name))
    if found is None:
        raise UnknownNameError(kind.replace("_", " "), name, names(kind))
    return found


def names(kind: Kind = Kind.TOKEN_MIXER) -> list[str]:
    """The names registered under a kind, sorted."""
    return [op.name for op in operators(kind)]


def operators(kind: Kind | None = None) -> Iterator[Operator]:
    """All registered operators, of one kind or of all, sorted by kind and name."""
    _load()
    return (op for (k, _), op in sorted(_REGISTRY.items()) if kind is None or k == kind)
