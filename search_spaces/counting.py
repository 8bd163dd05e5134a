"""How many distinct architectures a space holds: dynamic programming over the states of its rules of placement.

Nothing is enumerated that can be multiplied: settings are counted in the parts that depend on each other, mixers that a rule
of placement treats alike are summed before they are followed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from nas.search_spaces.architecture import Op
from nas.search_spaces.graph import branch_widths, joins_branches
from nas.search_spaces.joint import joint_ways
from nas.search_spaces.maps import Map
from nas.search_spaces.placement import PLACEMENTS, Placement
from nas.search_spaces.registry import Kind, operator
from nas.search_spaces.surroundings import downsamples_of, stem_map, stem_of

if TYPE_CHECKING:
    from nas.search_spaces.space import SearchSpace

State = tuple[str | None, ...]
"""The state of each rule of placement; None where it is already broken."""
States = Counter[State]
"""How many prefixes of networks leave the rules in each state."""
Ways = dict[str, int]
"""The number of distinct blocks whose first mixer is each of a stage's."""


def size(space: SearchSpace) -> int:
    """The exact number of members; an architecture that obeys several rules of placement counts once."""
    return _Count(space).members()


class _Count:
    """One count, with what is worth remembering on the way."""

    def __init__(self, space: SearchSpace) -> None:
        self.space, self.rules = space, [PLACEMENTS[name] for name in space.placements]
        self.blocks: dict[tuple[int, int, int, bool], Ways] = {}
        self.steps: dict[tuple[int, State], dict[State, tuple[str, ...]]] = {}
        joining = sum(joins_branches(Op.parse(text).name) for text in space.residuals)
        self.residuals = {True: joining, False: len(space.residuals) - joining}

    def members(self) -> int:
        """The number of members of the space."""
        space, found = self.space, 0
        for side in space.resolutions:
            for width in space.widths[0]:
                entered: defaultdict[Map, States] = defaultdict(Counter)
                for name in space.stems:
                    stem = stem_of(space, name, width, side)
                    before = None if stem is None else stem_map(space, stem, side)
                    if before is not None:
                        entered[before][("",) * len(self.rules)] += 1
                found += self.stages(entered, width)
        return found * len(space.heads)

    def stages(self, entered: dict[Map, States], first: int) -> int:
        """The number of networks whose stem is followed by each map so many times, and whose first stage has that width."""
        space = self.space
        current = {at: self.stage(0, first, at, states) for at, states in entered.items()}
        for stage in range(1, len(space.depths)):
            following: defaultdict[Map, States] = defaultdict(Counter)
            for width in space.widths[stage]:
                before: defaultdict[Map, States] = defaultdict(Counter)
                for at, states in current.items():
                    for after, options in self.downsamples(stage, width, at).items():
                        _add(before[after], states, options)
                for at, states in before.items():
                    _add(following[at], self.stage(stage, width, at, states))
            current = dict(following)
        return sum(states.total() for states in current.values())

    def downsamples(self, stage: int, width: int, before: Map) -> Counter[Map]:
        """How many downsamples make each map of the one before a stage."""
        place = (width, before, self.space.stride_of(stage))
        return Counter(after for name in self.space.downsamples for after in downsamples_of(self.space, name, *place).values())

    def stage(self, stage: int, width: int, at: Map, states: States) -> States:
        """The states behind a stage's blocks, with all of its norms and residuals."""
        entered: States = Counter()
        for state, count in states.items():
            entered[tuple(_entered(rule, part) for part, rule in zip(state, self.rules, strict=True))] += count
        found: States = Counter()
        for joins, residuals in self.residuals.items():
            if residuals:
                _add(
                    found, self.rows(stage, self.ways(stage, width, at.side, joins), entered), residuals * len(self.space.norms)
                )
        return found

    def rows(self, stage: int, ways: Ways, states: States) -> States:
        """The states behind each row of blocks that is as long as one of the stage's depths."""
        found: States = Counter()
        totals: dict[State, list[tuple[State, int]]] = {}
        for depth in range(1, max(self.space.depths[stage]) + 1):
            following: States = Counter()
            for state, count in states.items():
                if state not in totals:
                    steps = self.followers(stage, state).items()
                    sums = ((after, sum(map(ways.__getitem__, names))) for after, names in steps)
                    totals[state] = [(after, total) for after, total in sums if total]
                for after, total in totals[state]:
                    following[after] += count * total
            states = following
            if depth in self.space.depths[stage]:
                _add(found, states)
        return found

    def followers(self, stage: int, state: State) -> dict[State, tuple[str, ...]]:
        """The mixers of a stage that may stand behind a state, by the state behind them."""
        known = self.steps.get((stage, state))
        if known is None:
            found: defaultdict[State, list[str]] = defaultdict(list)
            for name in self.space.mixers[stage]:
                op = operator(Kind.TOKEN_MIXER, name)
                parts = zip(state, self.rules, strict=True)
                after = tuple(None if part is None else rule.step(part, op) for part, rule in parts)
                if any(part is not None for part in after):
                    found[after].append(name)
            known = self.steps[stage, state] = {after: tuple(names) for after, names in found.items()}
        return known

    def ways(self, stage: int, width: int, size: int, joins: bool) -> Ways:
        """The number of distinct blocks with each first mixer; in pairs only where the residual `joins` them."""
        key = (stage, width, size, joins)
        if key not in self.blocks:
            at = self.space.independence.at
            channels = sum(at(Kind.CHANNEL_MIXER, name, width, size).ways for name in self.space.channel_mixers)
            found = {}
            for name in self.space.mixers[stage]:
                single = at(Kind.TOKEN_MIXER, name, width, size).ways
                pairs = self.pairs(stage, name, width, size) if single and joins else 0
                found[name] = channels * (single + pairs)
            self.blocks[key] = found
        return self.blocks[key]

    def pairs(self, stage: int, name: str, width: int, size: int) -> int:
        """The number of distinct blocks in which a mixer has a partner beside it."""
        if len(self.space.splits) == 1 or width < 16:
            return 0
        space, at, found = self.space, self.space.independence.at, 0
        for one, two in {branch_widths(width, split) for split in space.splits if split < 1.0}:
            first = at(Kind.TOKEN_MIXER, name, one, size)
            seconds = (at(Kind.TOKEN_MIXER, partner, two, size) for partner in space.partners if partner != name)
            found += sum(joint_ways(space, stage, first, second) for second in seconds)
        return found


def _add(sums: States, states: States, times: int = 1) -> None:
    for state, count in states.items():
        sums[state] += count * times


def _entered(rule: Placement, state: str | None) -> str | None:
    return None if state is None else rule.enter_stage(state)
