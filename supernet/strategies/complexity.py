"""Complexity-aware sampling: the networks of a step, and of neighbouring steps, cost about the same."""

from __future__ import annotations

from nas.search_spaces.complexity import block_macs
from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register

LEVELS = 8


@register("complexity", cite="Tang et al. 2023, ElasticViT, arXiv:2303.09730, section 3.2")
def complexity(draw: Draw) -> StepPlan:
    """`networks` networks near one level of cost, which moves by one level a step, up and down again.

    Gradients of networks of very unlike cost oppose each other, so none of a step are. A network of level l is the l-th
    cheapest of as many random members as there are levels; at the ends one of the step's networks is a smallest or a largest.
    """
    turn = draw.step % (2 * LEVELS - 2)
    level = min(turn, 2 * LEVELS - 2 - turn)
    rng = draw.rng("complexity")
    networks = [sorted((draw.space.sample(rng) for _ in range(LEVELS)), key=block_macs)[level] for _ in range(draw.networks)]
    if level in (0, LEVELS - 1):
        networks[0] = draw.space.smallest(rng) if level == 0 else draw.space.largest(rng)
    return StepPlan(tuple(Lesson(architecture=each, weight=1.0 / draw.networks) for each in networks))
