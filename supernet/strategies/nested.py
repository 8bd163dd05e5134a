"""Nested prefixes: networks of one kind at several grains, each a prefix of the next, trained together."""

from __future__ import annotations

from nas.search_spaces.genotype import Gene
from nas.search_spaces.registry import Value
from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register


@register("nested", cite="Devvrit et al. 2023, MatFormer, arXiv:2310.07707, section 3.2")
def nested(draw: Draw) -> StepPlan:
    """The kinds of operators are drawn once a step; every ordered gene goes from cheapest to dearest in `networks` grains.

    All grains learn from the labels and count alike (the paper's joint loss, equation 4, with equal weights).
    """
    rng = draw.rng("nested")
    kinds = {gene.name: rng.choice(gene.choices) for gene in draw.space.genes if not gene.ordered}
    levels = max(2, draw.networks)
    shares = [(levels - 1 - level) / (levels - 1) for level in range(levels)]
    grains = ({**kinds, **{g.name: at(g, share) for g in draw.space.genes if g.ordered}} for share in shares)
    return StepPlan(tuple(Lesson(architecture=draw.space.decode(genes), weight=1.0 / levels) for genes in grains))


def at(gene: Gene, share: float) -> Value:
    """The choice at a share of the way from cheapest to dearest."""
    return gene.choices[round(share * (len(gene.choices) - 1))]
