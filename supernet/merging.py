"""Merging the gradient of a step's largest network with that of its other networks."""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 2.0


def project(others: Tensor, largest: Tensor) -> Tensor:
    """The sum of two gradients of one tensor, the others' raised where the largest's opposes them.

    Adds to `largest` + `others` as much of `others` as takes away what of `largest` points against them, at most MOST times
    `others`: so the smaller networks, of which a step trains few, lose nothing to the largest (Gong et al. 2022, NASViT,
    section 3.3; official misc/constrain_opt.py, tensor by tensor).
    """
    norm = others.square().sum()
    if not norm > 0:
        return others + largest
    raised = (-(others * largest).sum() / norm).clamp(0.0, MOST)
    return torch.addcmul(others + largest, raised, others)
