"""Fresh weights that are told apart, as trained ones are."""

from __future__ import annotations

import torch
from torch import nn

SPREAD = 0.01


def told_apart(model: nn.Module) -> nn.Module:
    """The model, with a little noise on every parameter.

    Norms and scales begin with equal values. An exporter merges equal constants, and a runtime then finds them in its caches
    more often than the different ones of a trained network.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + SPREAD * torch.rand_like(parameter)).add_(SPREAD**2 * torch.rand_like(parameter))
    return model
