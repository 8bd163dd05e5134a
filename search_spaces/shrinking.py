"""Parts of a published network made narrower, or put on smaller maps: each keeps what it can of its own settings.

Attention heads keep their width, so that fewer channels mean fewer heads. Every other setting keeps its value, or what is
wanted in its place; where the rule of an operator forbids that, the nearest legal value follows, as `Operator.repair` has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from nas.errors import SpaceError
from nas.search_spaces.architecture import LAYER_SCALE, Architecture, Block, Op
from nas.search_spaces.graph import branch_widths
from nas.search_spaces.registry import Kind, Operator, Value, operator

HEADS, EXPANSION = "heads", "expansion"
Wanted = Mapping[str, Value]


def require_shrinkable(anchor: Architecture) -> None:
    """Raise SpaceError for a network in which operators read what others hand on: what these are may not change then."""
    why = "an overview branch" if anchor.overview else ""
    for kind, op in operators_of(anchor):
        known = operator(kind, op.name)
        if known.side or known.emits:
            why = why or f"{op.name!r}, which {f'reads {known.side}' if known.side else f'hands on {known.emits}'}"
    if why:
        raise SpaceError(
            f"no space lies around this backbone: it has {why} beside the stream, and a space around a backbone changes and "
            "leaves out blocks on their own"
        )


def operators_of(anchor: Architecture) -> Iterator[tuple[Kind, Op]]:
    """The mixers, downsamples and residuals of a network."""
    for stage in anchor.stages:
        yield from ((Kind.DOWNSAMPLE, op) for op in (stage.downsample,) if op is not None)
        yield Kind.RESIDUAL, stage.residual or LAYER_SCALE
        for block in stage.blocks:
            yield from ((Kind.TOKEN_MIXER, op) for op in block.mixers)
            yield from ((Kind.CHANNEL_MIXER, op) for op in (block.channel_mixer,) if op is not None)
            yield from ((Kind.RESIDUAL, op) for op in (block.residual,) if op is not None)


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the blocks of a shrunk network, and the height and width of each stage's map."""

    stem: Op
    downsamples: tuple[Op | None, ...]
    maps: tuple[tuple[int, int], ...]
    head: Op

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of the maps that operators are told: the columns where there is one row."""
        return tuple(width if height == 1 else height for height, width in self.maps)


def frame(anchor: Architecture, widths: tuple[int, ...], side: int) -> Frame:
    """Stem, downsamples and head of a network with its stages at other widths, for images of a side.

    Raises SpaceError where one of them has no legal setting.
    """
    stem = shrunk(Kind.STEM, anchor.stem, anchor.stages[0].width, widths[0], side)
    found = Frame(stem, (None,), (operator(Kind.STEM, stem.name).map_after(side, side, stem.settings),), anchor.head)
    for stage, width in zip(anchor.stages[1:], widths[1:], strict=True):
        assert stage.downsample is not None, "every stage but the first begins with one"
        down = shrunk(Kind.DOWNSAMPLE, stage.downsample, stage.width, width, found.sizes[-1])
        after = operator(Kind.DOWNSAMPLE, down.name).map_after(*found.maps[-1], down.settings)
        found = replace(found, downsamples=(*found.downsamples, down), maps=(*found.maps, after))
    return replace(found, head=shrunk(Kind.HEAD, anchor.head, anchor.stages[-1].width, widths[-1], found.sizes[-1]))


def shrunk(kind: Kind, own: Op, before: int, width: int, size: int, wanted: Wanted | None = None) -> Op:
    """An operator of `before` channels at `width` channels and a size of map. Raises SpaceError where nothing is legal."""
    known = operator(kind, own.name)
    given = known.complete(own.settings) | dict(wanted or {})
    settings = known.repair(_scaled(given, before, width), width, size, _choices(known, dict(own.settings), given))
    if settings is None:
        raise SpaceError(f"{kind} {own} has no legal setting for {width} channels on a {size}x{size} map")
    return Op(own.name, settings)


def replacement(name: str, own: Op, before: int, width: int, size: int, wanted: Wanted) -> Op | None:
    """Another token mixer in the place of one, with the settings that both have; None where nothing is legal.

    Hidden layers it has as small as it can.
    """
    known = operator(Kind.TOKEN_MIXER, name)
    given = {key: value for key, value in (dict(own.settings) | dict(wanted)).items() if key != EXPANSION}
    common = {key: value for key, value in given.items() if key in known.settings and _fits(known, key, value)}
    settings = known.repair(_scaled(common, before, width), width, size, _choices(known, common, common))
    return None if settings is None else Op(name, settings)


def shrunk_block(own: Block, wanted: Wanted, before: int, width: int, size: int) -> Block:
    """A block of a stage of `before` channels in one of `width`, with what is `wanted` of its mixer and settings.

    `wanted` holds `mixer`, settings of the token mixer by name, and those of the channel mixer behind `channel.`.
    """
    before, width = own.width or before, own.width or width
    channels = {key.removeprefix("channel."): value for key, value in wanted.items() if key.startswith("channel.")}
    tokens = {key: value for key, value in wanted.items() if not key.startswith("channel.") and key != "mixer"}
    mixers, split = own.mixers, own.split
    if len(mixers) == 1:
        mixers = (_mixer(mixers[0], str(wanted.get("mixer", mixers[0].name)), before, width, size, tokens),)
    elif mixers:
        parts, then = branch_widths(before, split), branch_widths(width, split)
        mixers = tuple(shrunk(Kind.TOKEN_MIXER, *each, size) for each in zip(mixers, parts, then, strict=True))
        split = then[0] / width
    channel = own.channel_mixer
    if channel is not None:
        channel = shrunk(Kind.CHANNEL_MIXER, channel, before, width, size, channels)
    return replace(own, mixers=mixers, channel_mixer=channel, split=split)


def _mixer(own: Op, name: str, before: int, width: int, size: int, wanted: Wanted) -> Op:
    """The mixer of that name, or the block's own where the other cannot work."""
    found = None if name == own.name else replacement(name, own, before, width, size, wanted)
    return found or shrunk(Kind.TOKEN_MIXER, own, before, width, size, wanted)


def _scaled(given: Mapping[str, Value], before: int, width: int) -> dict[str, Value]:
    heads = given.get(HEADS)
    scaled = dict(given)
    if isinstance(heads, int):
        scaled[HEADS] = max(1, round(heads * width / before))
    return scaled


def _choices(known: Operator, own: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, tuple[Value, ...]]:
    """What each setting may be: what is given first, then what it usually is; heads may be any number up to the given."""
    found = {}
    for key, setting in known.settings.items():
        values = (given[key], *setting.usual) if key in own else setting.usual
        most = given.get(HEADS)
        found[key] = tuple(range(1, most + 1)) if key == HEADS and isinstance(most, int) else tuple(dict.fromkeys(values))
    return found


def _fits(known: Operator, key: str, value: Value) -> bool:
    return type(value) in {type(choice) for choice in known.settings[key].choices}
