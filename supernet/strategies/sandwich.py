"""The sandwich rule: each step trains the largest, the smallest and some random networks, the largest teaching the others."""

from __future__ import annotations

from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register


@register("sandwich", cite="Yu et al. 2020, BigNAS, arXiv:2003.11142, section 3.1")
def sandwich(draw: Draw) -> StepPlan:
    """The largest learns from the labels, the others half from them and half from its predictions.

    Without the labels the first epochs would only copy an untrained teacher.
    """
    return taught(draw, labels=0.5, distil=0.5, distance="soft")


@register("alpha", cite="Wang et al. 2021, AlphaNet, arXiv:2102.07954, section 3")
def alpha(draw: Draw) -> StepPlan:
    """As `sandwich`, by the clipped alpha divergence, which also punishes a student that is surer than its teacher.

    The paper's networks learn from the largest alone over 360 epochs; in short trainings a half from the labels is needed.
    """
    return taught(draw, labels=0.5, distil=0.5, distance="alpha")


def taught(draw: Draw, *, labels: float, distil: float, distance: str) -> StepPlan:
    """Largest, smallest and random networks.

    In the largest and the smallest the kinds of operators are drawn anew each time, so that every operator is trained at
    both ends of every size.
    """
    rng = draw.rng("sandwich")
    space = draw.space
    largest = space.largest(rng)
    students = [space.smallest(rng)] if draw.networks > 1 else []
    students += [space.sample(rng) for _ in range(draw.networks - 2)]
    lessons = (Lesson(architecture=each, labels=labels, teacher=0, distil=distil, distance=distance) for each in students)
    return StepPlan((Lesson(architecture=largest), *lessons))
