"""Making a strategy's draw legal: feasible under the budgets and not proposed before, in a bounded number of attempts."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator

from nas.errors import InfeasibleError, NasError
from nas.search.types import Problem, format_metric
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.genotype import Genotype

Draw = Callable[[random.Random], Architecture]

DRAWS = 12
STARTS = 6
STEPS = 200
PATIENCE = 60
WALK = 2000
SCATTERED = 2000


class SpaceExhausted(NasError):  # noqa: N818 - an end, not a fault: the loop stops on it as on the last evaluation
    """Every feasible architecture that could be found has been proposed."""


class Proposer:
    """Turns draws into proposals: rejection first, then hill climbing on the violation, then a walk through neighbours.

    Where members are scattered, so that climbing leads nowhere, many random ones are tried before it. Deterministic in the
    generator, the draws and `taken`; nothing else is remembered but descriptions.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.space = problem.space
        self._genes = {gene.name: gene for gene in problem.space.genes}

    def propose(self, draw: Draw, rng: random.Random, taken: Collection[str], draws: int = DRAWS) -> Architecture:
        """A feasible architecture whose digest is not in `taken`.

        Raises InfeasibleError with the closest value seen where nothing meets the budgets, and SpaceExhausted where all
        that does is taken.
        """
        closest: Architecture | None = None
        for _ in range(draws):
            drawn = draw(rng)
            if self._legal(drawn, taken):
                return drawn
            if closest is None or self.problem.violation(drawn) < self.problem.violation(closest):
                closest = drawn
        for _ in range(0 if self.space.dense else SCATTERED):
            drawn = self.space.sample(rng)
            if self._legal(drawn, taken):
                return drawn
        for start in self._starts(closest, rng):
            climbed = self._climb(start, rng, taken)
            if self._legal(climbed, taken):
                return climbed
            if closest is None or self.problem.violation(climbed) < self.problem.violation(closest):
                closest = climbed
        assert closest is not None
        if self.problem.violation(closest) > 0.0:
            raise self._infeasible(closest)
        return self._walk(closest, taken)

    def _legal(self, architecture: Architecture, taken: Collection[str]) -> bool:
        return architecture.digest not in taken and self.problem.violation(architecture) == 0.0

    def _starts(self, closest: Architecture | None, rng: random.Random) -> Iterator[Architecture]:
        """Where to climb from: the best draw, the smallest member, smallest members of drawn kinds, random members."""
        if closest is not None:
            yield closest
        yield self.space.smallest()
        for index in range(STARTS):
            yield self.space.smallest(rng) if index % 2 == 0 else self.space.sample(rng)

    def _climb(self, start: Architecture, rng: random.Random, taken: Collection[str]) -> Architecture:
        """Changes of one gene that do not raise the violation, until legal, `STEPS` are spent, or `PATIENCE` runs out."""
        current, violation, idle = start, self.problem.violation(start), 0
        genes, active = self.space.encoded(current)
        for _ in range(STEPS):
            if idle > PATIENCE or self._legal(current, taken):
                break
            changed = self._change(genes, active, rng, cheaper=violation > 0.0)
            child = self.space.decode(changed) if changed is not None else current
            value = self.problem.violation(child)
            idle = 0 if value < violation else idle + 1
            if value <= violation and child != current:
                current, violation = child, value
                genes, active = self.space.encoded(current)
        return current

    def _change(self, genes: Genotype, active: list[str], rng: random.Random, cheaper: bool) -> Genotype | None:
        """The genes with one that plays a part changed, an ordered one only downwards if `cheaper`; None if it cannot be."""
        gene = self._genes[rng.choice(active)]
        here = gene.choices.index(genes[gene.name])
        options = gene.choices[:here] if cheaper and gene.ordered else gene.choices[:here] + gene.choices[here + 1 :]
        return {**genes, gene.name: rng.choice(options)} if options else None

    def _walk(self, start: Architecture, taken: Collection[str]) -> Architecture:
        """The first legal architecture in the neighbourhoods around `start`, through feasible ones, nearest first."""
        queue, seen = [start], {start.digest}
        for centre in queue:
            for neighbour in self.space.neighbours(centre):
                if self._legal(neighbour, taken):
                    return neighbour
                if neighbour.digest not in seen and self.problem.violation(neighbour) == 0.0:
                    queue.append(neighbour)
                seen.add(neighbour.digest)
                if len(seen) > WALK:
                    break
            if len(seen) > WALK:
                break
        raise SpaceExhausted(
            f"no new architecture of space {self.space.name!r} within the budgets was found after {len(taken)} candidates; "
            "widen the space or the budgets to go on"
        )

    def _infeasible(self, closest: Architecture) -> InfeasibleError:
        budgets, cheap = self.problem.budgets, self.problem.cheap(closest)
        metric = budgets.worst(cheap)
        limit, used = budgets.limits[metric], budgets.used(metric, cheap)
        others = [f"{name} {format_metric(name, budgets.used(name, cheap))}" for name in budgets.limits if name != metric]
        beside = f" beside {', '.join(others)} ({budgets})" if others else ""
        return InfeasibleError(
            f"no architecture of space {self.space.name!r} meets the {metric} budget of {format_metric(metric, limit)}: "
            f"the closest one found has {format_metric(metric, used)} ({used / limit - 1:+.0%}){beside}; "
            "raise the budget or choose a smaller space",
            closest,
        )
