"""Progressive shrinking: the largest networks first, then ever more kinds of smaller ones."""

from __future__ import annotations

from nas.search_spaces.genotype import Gene
from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register

PHASES = (0.0, 0.25, 0.5, 0.75)
"""The shares of the training after which are elastic: kinds of operators; resolution and operators' settings; depth; width."""


@register("shrinking", cite="Cai et al. 2020, Once-for-All, arXiv:1908.09791, section 3.3", reorder_at=PHASES[-1])
def shrinking(draw: Draw) -> StepPlan:
    """A largest network, and random ones among those that the phase allows, taught half by it and half by the labels.

    The order is the paper's: kernels, then depth, then width and expansion, before which channels are put in order of
    importance. Resolution, which the paper varies from the first step on, opens with the kernels; depth and width each open at
    once, not in two steps as in the official code. The paper's teacher is the largest network frozen after its own training;
    here it goes on learning, as the kinds of operators, which the paper does not search, change from step to step. One
    learning-rate schedule with one warm-up spans all phases, where the paper begins one anew with each: widths are learned at
    the low rates of the last quarter, so this strategy needs longer trainings than the others.
    """
    rng = draw.rng("shrinking")
    phase = max(index for index, share in enumerate(PHASES) if draw.progress >= share)
    largest = draw.space.largest(rng)
    lessons = [Lesson(architecture=largest)]
    for _ in range(draw.networks - 1 if phase else 0):
        genes = {gene.name: rng.choice(gene.choices) if opens(gene) <= phase else gene.choices[-1] for gene in draw.space.genes}
        lessons.append(Lesson(architecture=draw.space.decode(genes), labels=0.5, teacher=0, distil=0.5))
    return StepPlan(tuple(lessons))


def opens(gene: Gene) -> int:
    """The phase from which on a gene may have any of its choices."""
    if not gene.ordered:
        return 0
    last = gene.name.rpartition(".")[2]
    if last == "depth":
        return 2
    return 3 if last in ("width", "expansion") else 1
