"""The learning-rate schedule of all trainings."""

from __future__ import annotations

import math


def warm_cosine(peak: float, warmup: float, step: int, steps: int) -> float:
    """Linear warm-up to `peak` over the share `warmup` of all steps, then half a cosine to zero."""
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return peak * (step + 1) / ramp
    return peak * 0.5 * (1.0 + math.cos(math.pi * (step - ramp) / max(1, steps - ramp)))
