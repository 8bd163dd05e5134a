"""The rules that a search space must obey, checked when it is created."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from nas.errors import SpaceError, UnknownNameError
from nas.search_spaces.architecture import Op
from nas.search_spaces.placement import PLACEMENTS
from nas.search_spaces.registry import Kind, Operator, Place, Value, operator, operators
from nas.search_spaces.surroundings import READ_FIRST, carries_overview, downsamples_of, head_of, stem_of

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

_PREFIXES = 1000
"""So many combinations of settings are followed in search of a rule that breaks them all."""


def validate(space: SearchSpace) -> None:
    """Raise SpaceError or UnknownNameError with the field, the value and the rule it breaks."""
    _shapes(space)
    _names(space)
    _resolutions(space)
    require_settings(space)
    _no_overview(space)
    _surroundings(space)
    _class_tokens(space)
    _every_block_has_a_mixer(space)


def settings_mapping(data: Any) -> dict[str, tuple[Value, ...]]:
    """`{"kernel": [3, 5]}` as a mapping of tuples. Raises SpaceError for anything else."""
    if not isinstance(data, Mapping):
        raise SpaceError(f"settings must map names to lists of choices, got {data!r}")
    for name, choices in data.items():
        if not isinstance(choices, (list, tuple)):
            raise SpaceError(f"settings.{name} must be a list of choices, got {choices!r}; write [{choices!r}]")
    return {str(name): tuple(choices) for name, choices in data.items()}


def settings_are_taken(space: SearchSpace, given: Iterable[str]) -> None:
    """Raise SpaceError where no operator of the space searches one of the given settings, with what takes it and a near name.

    A setting of stems and heads counts where they cannot do without it, one of downsamples too.
    """
    taken = {name for op in _operators_of(space) for name in _searched(op)}
    for name in given:
        if name not in taken:
            close = difflib.get_close_matches(name, sorted(taken), n=1, cutoff=0.5)
            takers = sorted({op.name for op in operators() if name in _searched(op)})
            remedy = f"list an operator that takes it ({', '.join(takers[:3])}), or leave it out" if takers else "leave it out"
            raise SpaceError(
                f"settings.{name} of space {space.name!r} is searched by none of its operators: {remedy}"
                + "".join(f" (the nearest that is searched: {found!r})" for found in close)
            )


def _operators_of(space: SearchSpace) -> Iterator[Operator]:
    listed = {Kind.STEM: space.stems, Kind.DOWNSAMPLE: space.downsamples, Kind.HEAD: space.heads}
    listed[Kind.CHANNEL_MIXER] = space.channel_mixers
    partners = space.partners if len(space.splits) > 1 else ()
    listed[Kind.TOKEN_MIXER] = tuple(name for stage in space.mixers for name in stage) + partners
    return (operator(kind, name) for kind, names in listed.items() for name in names)


def _searched(op: Operator) -> set[str]:
    """The settings of an operator of which a space may list choices: the optional ones of mixers only, no stem's stride."""
    if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER):
        return set(op.settings)
    around = op.kind in (Kind.STEM, Kind.DOWNSAMPLE, Kind.HEAD)
    own = {"stride"} if op.kind == Kind.STEM else set()
    return {name for name, setting in op.settings.items() if around and setting.default is None} - own


def obeyable(space: SearchSpace, placement: str) -> bool:
    """Whether a rule of placement leaves every block of the space a mixer."""
    try:
        for side in space.resolutions:
            _no_dead_end(space, side, placement)
    except SpaceError:
        return False
    return True


def require_tables(space: SearchSpace) -> None:
    """Raise SpaceError unless a space has a name, resolutions, and depths, widths and mixers for each stage."""
    if not isinstance(space.name, str) or not space.name:
        raise SpaceError(f"the name of a space must be text, got {space.name!r}")
    require_distinct(space, "resolutions", space.resolutions, int)
    stages = len(space.depths) if isinstance(space.depths, tuple) else 0
    for name, kind in (("depths", int), ("widths", int), ("mixers", str)):
        value = getattr(space, name)
        if not isinstance(value, tuple) or len(value) != stages or stages == 0:
            raise SpaceError(f"{name} of space {space.name!r} must have one list a stage ({stages} stages), got {value!r}")
        for stage, choices in enumerate(value):
            require_distinct(space, f"{name}[{stage}]", choices, kind)


def _shapes(space: SearchSpace) -> None:
    require_tables(space)
    require_distinct(space, "splits", space.splits, float)
    for name in ("stems", "downsamples", "norms", "channel_mixers", "placements", "residuals", "heads"):
        require_distinct(space, name, getattr(space, name), str)
    if type(space.stem_stride) is not int or space.stem_stride < 1:
        raise SpaceError(f"stem_stride of space {space.name!r} must be a whole number above zero, got {space.stem_stride!r}")
    if space.strides != ():
        _strides(space, len(space.depths))
    if any(not 0.0 < split <= 1.0 for split in space.splits) or 1.0 not in space.splits:
        raise SpaceError(f"splits {list(space.splits)} of space {space.name!r} must lie in (0, 1] and hold 1.0 (no partner)")
    if len(space.splits) > 1 or space.partners != ():
        require_distinct(space, "partners", space.partners, str)
    for stage, widths in enumerate(space.widths):
        odd = [width for width in widths if width % 8]
        if odd:
            raise SpaceError(f"widths {odd} of stage {stage} of space {space.name!r} are not multiples of 8")


def require_distinct(space: SearchSpace, name: str, value: Any, kind: type) -> None:
    """Raise SpaceError unless a field is a tuple of distinct choices of a type, whole numbers above zero."""
    if not isinstance(value, tuple) or not value:
        raise SpaceError(f"{name} of space {space.name!r} must be a list with at least one choice, got {value!r}")
    wrong = [item for item in value if type(item) is not kind]
    if wrong:
        raise SpaceError(f"{name} of space {space.name!r} must be of type {kind.__name__}, got {wrong[0]!r}")
    if len(set(value)) != len(value):
        raise SpaceError(f"{name} of space {space.name!r} repeats a choice: {list(value)}")
    if kind is int and min(value) < 1:
        raise SpaceError(f"{name} of space {space.name!r} must be above zero, got {min(value)}")


def _strides(space: SearchSpace, stages: int) -> None:
    wrong = not isinstance(space.strides, tuple) or any(
        type(stride) is not int or stride not in (1, 2) for stride in space.strides
    )
    if wrong or len(space.strides) != stages - 1:
        raise SpaceError(
            f"strides of space {space.name!r} must have a 1 or a 2 for each of the {stages - 1} stages behind the first, "
            f"got {_listed(space.strides)!r}"
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _names(space: SearchSpace) -> None:
    kinds = {Kind.STEM: space.stems, Kind.DOWNSAMPLE: space.downsamples, Kind.HEAD: space.heads}
    kinds[Kind.CHANNEL_MIXER] = space.channel_mixers
    kinds[Kind.TOKEN_MIXER] = tuple(name for stage in space.mixers for name in stage) + space.partners
    for kind, wanted in kinds.items():
        for name in wanted:
            operator(kind, name)
    for kind, texts in ((Kind.NORM, space.norms), (Kind.RESIDUAL, space.residuals)):
        for text in texts:
            op = Op.parse(text)
            if str(op) != text:
                raise SpaceError(f"{kind} {text!r} of space {space.name!r} must be written {str(op)!r}")
            for width in {width for widths in space.widths for width in widths}:
                operator(kind, op.name).check(dict(op.settings), width, 1)
    for name in space.placements:
        if name not in PLACEMENTS:
            raise UnknownNameError("placement rule", name, PLACEMENTS)


def _resolutions(space: SearchSpace) -> None:
    stride = space.stem_stride * math.prod(space.stride_of(stage) for stage in range(1, len(space.depths)))
    odd = [side for side in space.resolutions if side % stride]
    if odd:
        raise SpaceError(
            f"resolutions {odd} of space {space.name!r} are not multiples of the total stride {stride}: list multiples "
            "of it, or divide less by stem_stride and strides"
        )


def _surroundings(space: SearchSpace) -> None:
    """Every stem and head works wherever the space may put it, every downsample somewhere, and one of them everywhere."""
    for side, name, width in itertools.product(space.resolutions, space.stems, space.widths[0]):
        if stem_of(space, name, width, side) is None:
            _cannot(space, Kind.STEM, name, width, f"{side}x{side} image")
    fitting: set[str] = set()
    for side, stage in itertools.product(space.resolutions, range(1, len(space.depths))):
        for width, at in itertools.product(space.widths[stage], space.maps[side][stage - 1]):
            names = {name for name in space.downsamples if downsamples_of(space, name, width, at, space.stride_of(stage))}
            fitting |= names
            if not names:
                listed = ", ".join(space.downsamples)
                raise SpaceError(
                    f"no downsample of space {space.name!r} gives stage {stage} {width} channels with stride "
                    f"{space.stride_of(stage)} from a {at.height}x{at.width} map (downsamples: {listed}): "
                    "add one that does, or change the widths or strides"
                )
    for name in space.downsamples:
        if len(space.depths) > 1 and name not in fitting:
            at = space.maps[space.resolutions[0]][0][0]
            _cannot(space, Kind.DOWNSAMPLE, name, space.widths[1][0], f"{at.height}x{at.width} map")
    for side, name, width in itertools.product(space.resolutions, space.heads, space.widths[-1]):
        for at in space.maps[side][-1]:
            if head_of(space, name, width, at.side) is None:
                _cannot(space, Kind.HEAD, name, width, f"{at.height}x{at.width} map")


def _cannot(space: SearchSpace, kind: Kind, name: str, width: int, source: str) -> NoReturn:
    raise SpaceError(
        f"{kind} {name!r} of space {space.name!r} cannot give {width} channels from a {source} of the sizes that its strides "
        "ask for: leave it out, or list another in its place"
    )


def _no_overview(space: SearchSpace) -> None:
    """No downsample reads or carries an overview: no space has one."""
    for name in space.downsamples:
        if carries_overview(name):
            raise SpaceError(
                f"downsample {name!r} of space {space.name!r} needs an overview, which no genotype expresses: leave it out; "
                "an architecture written by hand may have one"
            )


def _class_tokens(space: SearchSpace) -> None:
    """A head that reads the first position finds a class token there, wherever the space may put it."""
    for name in (name for name in space.heads if name in READ_FIRST):
        for at in space.maps_of(len(space.depths) - 1):
            if not at.token:
                raise SpaceError(
                    f"head {name!r} of space {space.name!r} reads a class token, and the last stage may work on a "
                    f"{at.height}x{at.width} map without one: list a head that averages (average_pool), or only stems and "
                    "downsamples that put a class token in front and keep it"
                )


def require_settings(space: SearchSpace) -> None:
    """Raise SpaceError or UnknownNameError where `settings` lists what no operator takes."""
    known = {name for op in operators() for name in op.settings}
    for name, choices in space.settings.items():
        if name not in known:
            raise UnknownNameError("operator setting", name, known)
        kinds = {type(choice) for op in operators() if name in op.settings for choice in op.settings[name].choices}
        texts = {str(one) for op in operators() if name in op.settings for one in op.settings[name].choices if type(one) is str}
        for choice in choices:
            if isinstance(choice, str) and texts and choice not in texts:
                raise UnknownNameError(f"{name} in the settings of space {space.name!r}", choice, texts)
        wrong = [choice for choice in choices if type(choice) not in kinds]
        if wrong:
            wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
            raise SpaceError(f"settings.{name} of space {space.name!r} must be of type {wanted}, got {wrong[0]!r}")
        if not choices or len(set(choices)) != len(choices):
            raise SpaceError(f"settings.{name} of space {space.name!r} must be distinct choices, got {list(choices)}")


def _every_block_has_a_mixer(space: SearchSpace) -> None:
    """Every operator works somewhere in its stage, and no rule of placement runs into a block that nothing may fill."""
    for stage, wanted in enumerate(space.mixers):
        places = list(itertools.product(space.widths[stage], sorted({at.side for at in space.maps_of(stage)})))
        working = {name for place in places for name in _legal(space, stage, *place)}
        for name in wanted:
            if name not in working:
                raise SpaceError(
                    f"mixer {name!r} has no legal setting in stage {stage} of space {space.name!r} "
                    f"(widths {list(space.widths[stage])}, maps {sorted({size for _, size in places})}): "
                    f"{broken_rule(space, Kind.TOKEN_MIXER, name, *places[-1])}; leave it out there or widen its settings"
                )
        for name, (width, size) in itertools.product(space.channel_mixers, places):
            choices = space.choices_of(Kind.CHANNEL_MIXER, name)
            if operator(Kind.CHANNEL_MIXER, name).repair({}, width, size, choices) is None:
                raise SpaceError(
                    f"channel mixer {name!r} of space {space.name!r} has no legal setting at {width} channels on a "
                    f"{size}x{size} map: {broken_rule(space, Kind.CHANNEL_MIXER, name, width, size)}; leave it out or widen "
                    "its settings"
                )
    for side in space.resolutions:
        for name in space.placements:
            _no_dead_end(space, side, name)


def broken_rule(space: SearchSpace, kind: Kind, name: str, width: int, size: int) -> str:
    """In words, the rule of the setting at which an operator that cannot work at a place gets stuck, and the values tried."""
    op, options = operator(kind, name), space.choices_of(kind, name)
    chosen: list[dict[str, Value]] = [{}]
    for key, setting in op.settings.items():
        tried = options.get(key, setting.usual)
        chosen = [
            {**before, key: value} for before in chosen for value in tried if setting.rule(value, Place(width, size, before))
        ]
        if not chosen:
            usual = f"; it may be one of {list(setting.choices)}" if set(tried) != set(setting.choices) else ""
            return f"none of {key} {list(tried)} is legal at {width} channels on a {size}x{size} map: {setting.because}{usual}"
        chosen = chosen[:_PREFIXES]
    return f"no combination of {sorted(op.settings)} is legal at {width} channels on a {size}x{size} map"


def _legal(space: SearchSpace, stage: int, width: int, size: int) -> list[str]:
    """The mixers of a stage that can work at a place."""
    return [name for name in space.mixers[stage] if space.independence.at(Kind.TOKEN_MIXER, name, width, size).ways]


def _no_dead_end(space: SearchSpace, side: int, placement: str) -> None:
    rule = PLACEMENTS[placement]
    reached = {""}
    for stage, wanted in enumerate(space.mixers):
        entered = {rule.enter_stage(state) for state in reached}
        reached = set()
        sizes = sorted({at.side for at in space.maps[side][stage]})
        for width, size in itertools.product(space.widths[stage], sizes):
            legal = [operator(Kind.TOKEN_MIXER, name) for name in _legal(space, stage, width, size)]
            states = entered
            for _ in range(max(space.depths[stage])):
                steps = {state: {rule.step(state, op) for op in legal} - {None} for state in states}
                if not all(steps.values()):
                    raise SpaceError(
                        f"placement rule {placement!r} leaves no mixer for stage {stage} of space {space.name!r} "
                        f"at width {width} (mixers there: {', '.join(wanted)}): leave the rule out of placements"
                    )
                states = {str(after) for found in steps.values() for after in found}
                reached |= states
