"""Which networks a profile measures: those that were drawn, or in place of the training ones those that tell more."""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from nas.errors import MeasurementError, SpaceError
from nas.predictors.acquisition import informative, view_of
from nas.predictors.inheritance import Ancestors
from nas.predictors.kernel_times import KERNELS, node_clock
from nas.predictors.latency_table import HELD_OUT, NETWORK, TRAIN, LatencyTable
from nas.predictors.node_cover import covering
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.exclusion import operators_in, without
from nas.search_spaces.space import SearchSpace

DRAWS = 50


@dataclass(frozen=True, slots=True)
class ProfiledNetworks:
    """The networks of a space that a table is to hold, so many to learn from and held out: random ones, but those to learn from
    chosen for their nodes where they are exported, by what was measured where `active`, by what `ancestors` measured where
    there are any."""

    space: SearchSpace
    table: LatencyTable
    train: int
    held_out: int
    active: bool = False
    ancestors: Ancestors | None = None

    def left(self) -> list[tuple[Architecture, str]]:
        """The networks to measure, by digest: so training and held-out networks meet the same moods of the machine."""
        table = self.table
        if table.excluded:
            try:
                without(self.space, table.excluded)
            except SpaceError as error:
                raise MeasurementError(f"{table.target} refuses too much: {error}") from error
        learned = [item.architecture.digest for item in table.of_role(TRAIN)]
        drawn = networks_of(self.space, table.seed, self.train, self.held_out, table.refused, learned)
        wanted = self._chosen(list(drawn))
        missing = [pair for pair in wanted if pair[0].digest not in table.networks]
        return sorted(missing, key=lambda pair: pair[0].digest)

    def _chosen(self, drawn: list[tuple[Architecture, str]]) -> list[tuple[Architecture, str]]:
        """The networks that were drawn, or in place of the training ones those that tell more beside what is measured."""
        table = self.table
        inherits, active = self.ancestors is not None or bool(table.ancestry), self.active and bool(table.nodes)
        if not inherits and not active and node_clock(table.target) != KERNELS:
            return drawn
        held_out = [pair for pair in drawn if pair[1] == HELD_OUT]
        unwanted = {label.removeprefix(NETWORK) for label in table.refused} | {item.digest for item, _ in held_out}
        measured = [item.architecture for item in table.of_role(TRAIN)]
        if not inherits and not active:
            return [(architecture, TRAIN) for architecture in measured + self._bringing(measured, unwanted)] + held_out
        view = view_of(table) if self.ancestors is None else self.ancestors.view()
        more = informative(self.space, view, measured, max(self.train - len(measured), 0), table.seed, unwanted)
        return [(architecture, TRAIN) for architecture in measured + more] + held_out

    def _bringing(self, measured: Sequence[Architecture], unwanted: Collection[str]) -> list[Architecture]:
        """The training networks that are missing where exported ones bring all node times along."""
        table, missing = self.table, self.train - len(measured)
        if missing <= 0:
            return []
        taken = {*unwanted, *(item.digest for item in measured)}
        return covering(
            self.space, missing, table.seed, table.in_channels, table.num_classes, table.refused, taken, table.nodes.keys()
        )


def networks_of(
    space: SearchSpace,
    seed: int,
    train: int,
    held_out: int,
    refused: Collection[str] = (),
    learned: Collection[str] = (),
) -> Iterator[tuple[Architecture, str]]:
    """Distinct random architectures, each drawn from a stream of its own, with their roles; fewer in a tiny space.

    More of a role begin with the fewer. None has an operator that is `refused` (as in `LatencyTable.refused`): others are
    drawn in their place. No held-out one has a digest that was `learned` from.
    """
    seen: set[str] = set()
    for role, number in ((TRAIN, train), (HELD_OUT, held_out)):
        if role == HELD_OUT:
            seen |= set(learned)
        drawn = (space.sample(random.Random(f"{seed}:{role}:{index}")) for index in range(DRAWS * number))
        fresh = (item for item in drawn if item.digest not in seen and not seen.add(item.digest))  # type: ignore[func-returns-value]
        if refused:
            fresh = (item for item in fresh if operators_in(item).isdisjoint(refused) and NETWORK + item.digest not in refused)
        yield from ((architecture, role) for architecture in itertools.islice(fresh, number))
