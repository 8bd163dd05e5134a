"""Fair sampling: in every group of networks each choice of a gene is trained equally often."""

from __future__ import annotations

import random

from nas.search_spaces.genotype import Gene
from nas.search_spaces.registry import Value
from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register


@register("fair", cite="Chu et al. 2021, FairNAS, arXiv:1907.01845, section 3.2 (strict fairness)")
def fair(draw: Draw) -> StepPlan:
    """`networks` networks whose gradients are summed before the weights move.

    Network n, counted over all steps, takes of a gene with k choices the n mod k-th of a permutation that is drawn anew for
    each k networks: after every k networks each choice was taken once. FairNAS has the same k everywhere; here genes differ,
    so each has permutations of its own. Fairness is that of the genotype: a gene of an absent block trains nothing.
    """
    first = draw.step * draw.networks
    lessons = []
    for number in range(first, first + draw.networks):
        genes = {gene.name: turn(gene, number, draw.seed) for gene in draw.space.genes}
        lessons.append(Lesson(architecture=draw.space.decode(genes), weight=1.0 / draw.networks))
    return StepPlan(tuple(lessons))


def turn(gene: Gene, number: int, seed: int) -> Value:
    """The choice of a gene for the network of that number."""
    block, place = divmod(number, len(gene.choices))
    order = list(gene.choices)
    random.Random(f"fair:{seed}:{gene.name}:{block}").shuffle(order)
    return order[place]
