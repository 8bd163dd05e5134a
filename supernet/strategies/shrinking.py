"""Progressive shrinking: the largest networks first, then ever more kinds of smaller ones."""

from __future__ import annotations

from nas.search_spaces.genotype import Gene
from nas.search_spaces.registry import Value
from nas.supernet.strategies.base import Draw, Lesson, Phase, StepPlan, register

LARGEST, KERNELS, DEPTHS, ALL_DEPTHS, WIDTHS, ALL_WIDTHS = range(6)
EPOCHS = (180, 120, 25, 120, 25, 120)
"""How long the phases are, to each other: of the paper the first, of the official train_ofa_net.py the others."""
RATES = (2.6, 0.96, 0.08, 0.24, 0.08, 0.24)
"""Their peak learning rates, to each other: of the paper and of train_ofa_net.py on 32 workers."""
PHASES = tuple(
    Phase(sum(EPOCHS[:number]) / sum(EPOCHS), rate=rate / RATES[LARGEST], reorder=number == WIDTHS)
    for number, rate in enumerate(RATES)
)
_WIDTHS = frozenset(
    {"width", "expansion", "ratio", "value_ratio", "qk_ratio", "key_width", "head_width", "heads", "inner", "inner_heads"}
)
"""Decisions about numbers of channels or heads, of which smaller networks use the first ones."""


@register("shrinking", cite="Cai et al. 2020, Once-for-All, arXiv:1908.09791, section 3.3", phases=PHASES)
def shrinking(draw: Draw) -> StepPlan:
    """A largest network, and random ones among those that the phase allows, taught half by it and half by the labels.

    The order, the parts and the learning rates are the paper's: kernels, and with them resolution and all settings that the
    paper does not search; then depth; then widths of all kinds. Depth and width open first with their two largest choices, then
    with all. Channels are put in order of importance before widths open; the official code does that again before the last
    phase, among the channels that all networks of that phase share. Resolution, which the paper varies from the first step on,
    waits for the kernels. The paper's teacher is the largest network frozen after its own training, and teaches beside whole
    labels; here it goes on learning, as the kinds of operators, which the paper does not search, change from step to step. A
    step trains as many networks in each phase but the first, where the official code has 1, 2 and 4, and each phase warms up.
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
    elif last in _WIDTHS:
        some, every = WIDTHS, ALL_WIDTHS
    else:
        some = every = KERNELS
    if phase >= every:
        return gene.choices
    return gene.choices[-2:] if phase >= some else gene.choices[-1:]
