"""pymoo's NSGA-II in the harness of `nas bench search`, to compare with.

    python -m pip install pymoo==0.6.2
    python benchmarks/search_pymoo.py --tables DIR --seeds 20 --out OUT

Takes the options of `nas bench search` and adds the runs of the strategy `pymoo_nsga2` to the folder OUT. pymoo is no
dependency of the project: this file alone imports it.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.problem import Problem as Pymoo
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.problems.static import StaticProblem

from nas.__main__ import main
from nas.search.strategy import HistoryStrategy, register
from nas.search.types import Problem
from nas.search_spaces.genotype import Genotype

POPULATION = 40
GENERATIONS = 100
UNKNOWN = 1e9


@register("pymoo_nsga2", "pymoo's NSGA-II over the indices of the genes' choices, with constrained domination")
class PymooNsga2(HistoryStrategy):
    """Only feasible, new members cost an evaluation: pymoo is told for nothing by how much the others break the budgets, and
    what is known of a member that it proposes again. After `GENERATIONS` generations without a new one, a random one is tried.
    """

    def __init__(self, problem: Problem, seed: int = 0) -> None:
        super().__init__(problem, seed)
        self.active = [gene for gene in self.space.genes if len(gene.choices) > 1]
        ends = np.array([len(gene.choices) - 1 for gene in self.active])
        count = len(problem.objectives)
        budgets = int(bool(problem.budgets.limits))
        shape = Pymoo(n_var=len(ends), n_obj=count, n_ieq_constr=budgets, xl=np.zeros(len(ends)), xu=ends, vtype=int)
        self.algorithm = NSGA2(
            pop_size=POPULATION,
            sampling=IntegerRandomSampling(),
            crossover=SBX(vtype=float, repair=RoundingRepair()),
            mutation=PM(vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
        )
        self.algorithm.setup(shape, seed=seed, termination=("n_gen", 10**9), verbose=False)
        self.asked: Any = None
        self.members: list[Any] = []

    def _propose(self, number: int, rng: random.Random, taken: set[str]) -> Any:
        for _ in range(GENERATIONS):
            for member in self.members:
                if member.digest not in taken and self.problem.violation(member) == 0.0:
                    return member
            self._advance()
        return self._legal(self.space.sample, rng, taken)

    def _advance(self) -> None:
        """Tell pymoo what is known of its generation, and ask for the next."""
        known = {trial.architecture.digest: self.problem.costs(trial) for trial in self.complete}
        if self.members:
            unknown = (UNKNOWN,) * len(self.problem.objectives)
            values = {"F": np.array([known.get(member.digest, unknown) for member in self.members])}
            if self.problem.budgets.limits:
                values["G"] = np.array([[self.problem.violation(member)] for member in self.members])
            Evaluator().eval(StaticProblem(self.algorithm.problem, **values), self.asked)
            self.algorithm.tell(infills=self.asked)
        self.asked = self.algorithm.ask()
        self.members = [self._member(row) for row in self.asked.get("X")]

    def _member(self, row: np.ndarray) -> Any:
        genes: Genotype = {gene.name: gene.choices[0] for gene in self.space.genes}
        genes.update({gene.name: gene.choices[round(float(value))] for gene, value in zip(self.active, row, strict=True)})
        return self.space.decode(genes)


if __name__ == "__main__":
    sys.argv[1:] = ["bench", "search", *sys.argv[1:], "--strategies", "pymoo_nsga2"]
    sys.exit(main())
