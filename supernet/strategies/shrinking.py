"""Progressive shrinking: the largest networks first, then ever more kinds of smaller ones."""

from __future__ import annotations

from nas.search_spaces.genotype import Gene
from nas.search_spaces.registry import Value
from nas.supernet.strategies.base import Draw, Lesson, Phase, StepPlan, register

LARGEST, KERNELS, DEPTHS, ALL_DEPTHS, WIDTHS, ALL_WIDTHS = range(6)
PHASES = (
    Phase(0.0),
    Phase(0.3, rate=0.37),
    Phase(0.5, rate=0.03),
    Phase(0.54, rate=0.09),
    Phase(0.74, rate=0.03, reorder=True),
    Phase(0.78, rate=0.09, reorder=True),
)
"""As long, to each other, as the paper's 180, 120, 25, 120, 25 and 120 epochs, at its learning rates of 2.6, 0.96, 0.08, 0.24,
0.08 and 0.24."""


@register("shrinking", cite="Cai et al. 2020, Once-for-All, arXiv:1908.09791, sections 3.3 and 4.1", phases=PHASES)
def shrinking(draw: Draw) -> StepPlan:
    """A largest network, and random ones among those that the phase allows, taught half by it and half by the labels.

    The order, the parts and the learning rates are the paper's: kernels, then depth, then width and expansion, each of the last
    two first with the two largest choices and then with all; before either phase of widths channels are put in order of
    importance. Resolution, which the paper varies from the first step on, opens with the kernels. The paper's teacher is the
    largest network frozen after its own training; here it goes on learning, as the kinds of operators, which the paper does
    not search, change from step to step.
    """
    rng = draw.rng("shrinking")
    phase = max(index for index, each in enumerate(PHASES) if draw.step >= each.first_step(draw.steps))
    largest = draw.space.largest(rng)
    lessons = [Lesson(architecture=largest)]
    for _ in range(draw.networks - 1 if phase != LARGEST else 0):
        genes = {gene.name: rng.choice(allowed(gene, phase)) for gene in draw.space.genes}
        lessons.append(Lesson(architecture=draw.space.decode(genes), labels=0.5, teacher=0, distil=0.5))
    return StepPlan(tuple(lessons))


def allowed(gene: Gene, phase: int) -> tuple[Value, ...]:
    """The choices of a gene that a phase may draw."""
    if not gene.ordered:
        return gene.choices
    last = gene.name.rpartition(".")[2]
    if last == "depth":
        some, every = DEPTHS, ALL_DEPTHS
    elif last in ("width", "expansion"):
        some, every = WIDTHS, ALL_WIDTHS
    else:
        some = every = KERNELS
    if phase >= every:
        return gene.choices
    return gene.choices[-2:] if phase >= some else gene.choices[-1:]
