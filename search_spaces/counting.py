"""How many distinct architectures a space holds: dynamic programming over the states of its rules of placement."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from nas.search_spaces.genotype import repaired
from nas.search_spaces.graph import branch_widths
from nas.search_spaces.placement import PLACEMENTS
from nas.search_spaces.registry import Kind, Settings, Value, operator

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

States = Counter[tuple[str | None, ...]]
"""How many prefixes of networks leave each rule in each state; None where a rule is already broken."""


def size(space: SearchSpace) -> int:
    """The exact number of members; an architecture that obeys several rules of placement counts once."""
    return sum(len(space.stems) * len(space.heads) * _networks(space, resolution) for resolution in space.resolutions)


def _networks(space: SearchSpace, resolution: int) -> int:
    states: States = Counter({("",) * len(space.placements): 1})
    rules = [PLACEMENTS[name] for name in space.placements]
    for stage in range(len(space.depths)):
        entered: States = Counter()
        for state, count in states.items():
            entered[tuple(None if s is None else rule.enter_stage(s) for s, rule in zip(state, rules, strict=True))] += count
        kinds = len(space.norms) * len(space.residuals) * (len(space.downsamples) if stage else 1)
        states = Counter()
        for width in space.widths[stage]:
            for state, count in _stage(space, resolution, stage, width, entered).items():
                states[state] += kinds * count
    return sum(states.values())


def _stage(space: SearchSpace, resolution: int, stage: int, width: int, states: States) -> States:
    rules = [PLACEMENTS[name] for name in space.placements]
    blocks = dict(_blocks(space, stage, width, space.stage_size(resolution, stage)))
    found: States = Counter()
    for depth in range(1, max(space.depths[stage]) + 1):
        following: States = Counter()
        for (state, count), (name, ways) in itertools.product(states.items(), blocks.items()):
            op = operator(Kind.TOKEN_MIXER, name)
            after = tuple(None if s is None else rule.step(s, op) for s, rule in zip(state, rules, strict=True))
            if any(s is not None for s in after):
                following[after] += count * ways
        states = following
        if depth in space.depths[stage]:
            found += states
    return found


def _blocks(space: SearchSpace, stage: int, width: int, size: int) -> Iterator[tuple[str, int]]:
    """The number of distinct blocks whose first mixer is each of the stage's."""
    channels = sum(
        len(operator(Kind.CHANNEL_MIXER, name).legal_settings(width, size, space.choices_of(Kind.CHANNEL_MIXER, name)))
        for name in space.channel_mixers
    )
    for name in space.mixers[stage]:
        single = _legal(space, name, width, size)
        if single:
            yield name, channels * (len(single) + _pairs(space, name, width, size))


def _pairs(space: SearchSpace, name: str, width: int, size: int) -> int:
    """The number of distinct blocks in which a mixer has a partner beside it."""
    if len(space.splits) == 1 or width < 16:
        return 0
    parts = {branch_widths(width, split) for split in space.splits if split < 1.0}
    partners = [partner for partner in space.partners if partner != name]
    return sum(_joint(space, name, partner, *widths, size) for widths, partner in itertools.product(parts, partners))


def _joint(space: SearchSpace, first: str, second: str, first_width: int, second_width: int, size: int) -> int:
    """The number of distinct settings of two mixers that read the same genes where their settings have the same name."""
    mine, theirs = space.choices_of(Kind.TOKEN_MIXER, first), space.choices_of(Kind.TOKEN_MIXER, second)
    if not mine.keys() & theirs.keys():
        return len(_legal(space, first, first_width, size)) * len(_legal(space, second, second_width, size))
    shared = {key: tuple(dict.fromkeys((*mine[key], *theirs[key]))) for key in mine if key in theirs}
    left = _reached(space, first, first_width, size, shared)
    right = _reached(space, second, second_width, size, shared)
    found: set[tuple[Settings, Settings]] = set()
    for values in itertools.product(*shared.values()):
        found.update(itertools.product(left[values], right[values]))
    return len(found)


def _legal(space: SearchSpace, name: str, width: int, size: int) -> tuple[Settings, ...]:
    return operator(Kind.TOKEN_MIXER, name).legal_settings(width, size, space.choices_of(Kind.TOKEN_MIXER, name))


def _reached(
    space: SearchSpace, name: str, width: int, size: int, shared: dict[str, tuple[Value, ...]]
) -> dict[tuple[Value, ...], frozenset[Settings]]:
    """For each value of the shared settings, what all values of the operator's other settings are repaired to."""
    own = {key: values for key, values in space.choices_of(Kind.TOKEN_MIXER, name).items() if key not in shared}
    found = {}
    for wanted in itertools.product(*shared.values()):
        fixed = dict(zip(shared, wanted, strict=True))
        repairs = (
            repaired(space, name, {**fixed, **dict(zip(own, values, strict=True))}, width, size)
            for values in itertools.product(*own.values())
        )
        found[wanted] = frozenset(settings for settings in repairs if settings is not None)
    return found
