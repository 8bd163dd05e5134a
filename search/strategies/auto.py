"""`auto`: the strategy that did best on tables of real results for the kind of problem at hand (docs/search-benchmark.md)."""

from __future__ import annotations

from nas.search.strategies.graph_bo import GraphBo
from nas.search.strategies.nsga3 import Nsga3
from nas.search.strategy import Strategy, register
from nas.search.types import Problem

FEW = 3


@register("auto", "bo for up to three objectives, nsga3 for more: the rule that the benchmark backs", revision=3)
def auto(problem: Problem, seed: int) -> Strategy:
    """Bayesian optimisation leads where its improvement is exact, which is up to three objectives; beyond, NSGA-III."""
    return GraphBo(problem, seed) if len(problem.objectives) <= FEW else Nsga3(problem, seed)
