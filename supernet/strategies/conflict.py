"""The sandwich rule with conflict-aware gradients: where the largest network's gradient opposes the others', it gives way."""

from __future__ import annotations

from dataclasses import replace

from nas.supernet.strategies.base import Draw, StepPlan, register
from nas.supernet.strategies.sandwich import taught

PLAIN_SHARE = 0.28
"""Gradients are only summed at first: the official code waits 100 of 360 epochs."""


@register("conflict", cite="Gong et al. 2022, NASViT, openreview Qaw16njk6L, section 3.3; official misc/constrain_opt.py")
def conflict(draw: Draw) -> StepPlan:
    """As `alpha`, the gradients merged by `nas.supernet.merging.project` after the first part of the training."""
    plan = taught(draw, labels=0.5, distil=0.5, distance="alpha")
    return replace(plan, project=draw.progress >= PLAIN_SHARE)
