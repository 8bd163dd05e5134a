"""The rules that a search space must obey, checked when it is created."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas.errors import SpaceError, UnknownNameError
from nas.search_spaces.architecture import Op
from nas.search_spaces.graph import joins_branches
from nas.search_spaces.placement import PLACEMENTS
from nas.search_spaces.registry import Kind, Value, operator, operators
from nas.search_spaces.surroundings import Settled, downsample_of, head_of, stem_of

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace


def validate(space: SearchSpace) -> None:
    """Raise SpaceError or UnknownNameError with the field, the value and the rule it breaks."""
    _shapes(space)
    _names(space)
    _resolutions(space)
    _settings(space)
    _surroundings(space)
    _every_block_has_a_mixer(space)


def settings_mapping(data: Any) -> dict[str, tuple[Value, ...]]:
    """`{"kernel": [3, 5]}` as a mapping of tuples. Raises SpaceError for anything else."""
    if not isinstance(data, Mapping):
        raise SpaceError(f"settings must map names to lists of choices, got {data!r}")
    for name, choices in data.items():
        if not isinstance(choices, (list, tuple)):
            raise SpaceError(f"settings.{name} must be a list of choices, got {choices!r}; write [{choices!r}]")
    return {str(name): tuple(choices) for name, choices in data.items()}


def obeyable(space: SearchSpace, placement: str) -> bool:
    """Whether a rule of placement leaves every block of the space a mixer."""
    try:
        for side in space.resolutions:
            _no_dead_end(space, side, placement)
    except SpaceError:
        return False
    return True


def _shapes(space: SearchSpace) -> None:
    if not isinstance(space.name, str) or not space.name:
        raise SpaceError(f"the name of a space must be text, got {space.name!r}")
    _distinct(space, "resolutions", space.resolutions, int)
    _distinct(space, "splits", space.splits, float)
    for name in ("stems", "downsamples", "norms", "channel_mixers", "placements", "residuals", "heads"):
        _distinct(space, name, getattr(space, name), str)
    if type(space.stem_stride) is not int or space.stem_stride < 1:
        raise SpaceError(f"stem_stride of space {space.name!r} must be a whole number above zero, got {space.stem_stride!r}")
    stages = len(space.depths) if isinstance(space.depths, tuple) else 0
    for name, kind in (("depths", int), ("widths", int), ("mixers", str)):
        value = getattr(space, name)
        if not isinstance(value, tuple) or len(value) != stages or stages == 0:
            raise SpaceError(f"{name} of space {space.name!r} must have one list a stage ({stages} stages), got {value!r}")
        for stage, choices in enumerate(value):
            _distinct(space, f"{name}[{stage}]", choices, kind)
    if any(not 0.0 < split <= 1.0 for split in space.splits) or 1.0 not in space.splits:
        raise SpaceError(f"splits {list(space.splits)} of space {space.name!r} must lie in (0, 1] and hold 1.0 (no partner)")
    if len(space.splits) > 1:
        _distinct(space, "partners", space.partners, str)
    for stage, widths in enumerate(space.widths):
        odd = [width for width in widths if width % 8]
        if odd:
            raise SpaceError(f"widths {odd} of stage {stage} of space {space.name!r} are not multiples of 8")


def _distinct(space: SearchSpace, name: str, value: Any, kind: type) -> None:
    if not isinstance(value, tuple) or not value:
        raise SpaceError(f"{name} of space {space.name!r} must be a list with at least one choice, got {value!r}")
    wrong = [item for item in value if type(item) is not kind]
    if wrong:
        raise SpaceError(f"{name} of space {space.name!r} must be of type {kind.__name__}, got {wrong[0]!r}")
    if len(set(value)) != len(value):
        raise SpaceError(f"{name} of space {space.name!r} repeats a choice: {list(value)}")
    if kind is int and min(value) < 1:
        raise SpaceError(f"{name} of space {space.name!r} must be above zero, got {min(value)}")


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
    _joinable(space)
    for name in space.placements:
        if name not in PLACEMENTS:
            raise UnknownNameError("placement rule", name, PLACEMENTS)


def _resolutions(space: SearchSpace) -> None:
    stride = space.stem_stride * 2 ** (len(space.depths) - 1)
    odd = [side for side in space.resolutions if side % stride]
    if odd:
        raise SpaceError(f"resolutions {odd} of space {space.name!r} are not multiples of the total stride {stride}")


def _joinable(space: SearchSpace) -> None:
    """Two mixers in parallel need residuals that norm before them alone."""
    for text in space.residuals if len(space.splits) > 1 else ():
        if not joins_branches(Op.parse(text).name):
            raise SpaceError(
                f"residual {text!r} of space {space.name!r} cannot join two parallel mixers: leave splits at [1.0]"
            )


def _surroundings(space: SearchSpace) -> None:
    """Every stem, downsample and head can work wherever the space may put it, on the maps that its strides give."""
    for side in space.resolutions:
        places: list[tuple[Kind, Settled, str, int, int]] = []
        places += [(Kind.STEM, stem_of, name, width, side) for name in space.stems for width in space.widths[0]]
        for stage, widths in enumerate(space.widths[1:]):
            size = space.stage_size(side, stage)
            places += [(Kind.DOWNSAMPLE, downsample_of, name, width, size) for name in space.downsamples for width in widths]
        last = space.stage_size(side, len(space.depths) - 1)
        places += [(Kind.HEAD, head_of, name, width, last) for name in space.heads for width in space.widths[-1]]
        for kind, settled, name, width, size in places:
            if settled(space, name, width, size) is None:
                raise SpaceError(
                    f"{kind} {name!r} of space {space.name!r} cannot give {width} channels from a {size}x{size} map of the "
                    "sizes that its strides ask for: leave it out"
                )


def _settings(space: SearchSpace) -> None:
    known = {name for op in operators() for name in op.settings}
    for name, choices in space.settings.items():
        if name not in known:
            raise UnknownNameError("operator setting", name, known)
        texts = {str(one) for op in operators() if name in op.settings for one in op.settings[name].choices if type(one) is str}
        for choice in choices:
            if isinstance(choice, str) and texts and choice not in texts:
                raise UnknownNameError(f"{name} in the settings of space {space.name!r}", choice, texts)
        if not choices or len(set(choices)) != len(choices):
            raise SpaceError(f"settings.{name} of space {space.name!r} must be distinct choices, got {list(choices)}")
        kinds = {type(choice) for op in operators() if name in op.settings for choice in op.settings[name].choices}
        wrong = [choice for choice in choices if type(choice) not in kinds]
        if wrong:
            wanted = " or ".join(sorted(kind.__name__ for kind in kinds))
            raise SpaceError(f"settings.{name} of space {space.name!r} must be of type {wanted}, got {wrong[0]!r}")


def _every_block_has_a_mixer(space: SearchSpace) -> None:
    """Every operator works somewhere in its stage, and no rule of placement runs into a block that nothing may fill."""
    for stage, wanted in enumerate(space.mixers):
        for name in wanted:
            if not any(_legal(space, stage, name, width, side) for width in space.widths[stage] for side in space.resolutions):
                sizes = [space.stage_size(side, stage) for side in space.resolutions]
                raise SpaceError(
                    f"mixer {name!r} has no legal setting in stage {stage} of space {space.name!r} "
                    f"(widths {list(space.widths[stage])}, maps {sizes}): leave it out there or widen its settings"
                )
        for name, width, side in itertools.product(space.channel_mixers, space.widths[stage], space.resolutions):
            size, choices = space.stage_size(side, stage), space.choices_of(Kind.CHANNEL_MIXER, name)
            if operator(Kind.CHANNEL_MIXER, name).repair({}, width, size, choices) is None:
                raise SpaceError(
                    f"channel mixer {name!r} of space {space.name!r} has no legal setting at {width} channels on a "
                    f"{size}x{size} map: leave it out or widen its settings"
                )
    for side in space.resolutions:
        for name in space.placements:
            _no_dead_end(space, side, name)


def _legal(space: SearchSpace, stage: int, name: str, width: int, side: int) -> bool:
    choices = space.choices_of(Kind.TOKEN_MIXER, name)
    return operator(Kind.TOKEN_MIXER, name).repair({}, width, space.stage_size(side, stage), choices) is not None


def _no_dead_end(space: SearchSpace, side: int, placement: str) -> None:
    rule = PLACEMENTS[placement]
    reached = {""}
    for stage, wanted in enumerate(space.mixers):
        entered = {rule.enter_stage(state) for state in reached}
        reached = set()
        for width in space.widths[stage]:
            legal = [operator(Kind.TOKEN_MIXER, name) for name in wanted if _legal(space, stage, name, width, side)]
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
