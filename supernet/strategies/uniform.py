"""Uniform single path: every step trains one random network."""

from __future__ import annotations

from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register


@register("uniform", cite="Guo et al. 2020, Single Path One-Shot, arXiv:1904.00420, section 3.1")
def uniform(draw: Draw) -> StepPlan:
    """One network with every gene drawn uniformly."""
    return StepPlan((Lesson(architecture=draw.space.sample(draw.rng("uniform"))),))
