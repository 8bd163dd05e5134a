"""Averaged weights: an exponential moving average of the store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class AveragedWeights:
    """Moving averages of a module's parameters with decay `decay`; 0 keeps none.

    The decay grows with the steps, (1 + n) / (10 + n) at most, so that the first, untrained weights are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.steps = module, decay, 0
        self.tensors = {name: p.detach().clone() for name, p in module.named_parameters()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's present weights."""
        self.steps += 1
        weight = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, parameter in self.module.named_parameters() if self.decay else ():
            self.tensors[name].lerp_(parameter, weight)

    @torch.no_grad()
    def keep(self) -> None:
        """Give the averages to the module for good."""
        for name, parameter in self.module.named_parameters() if self.decay else ():
            parameter.copy_(self.tensors[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averages inside, and its own weights again afterwards."""
        own = {name: parameter.detach().clone() for name, parameter in self.module.named_parameters()} if self.decay else {}
        self.keep()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.module.named_parameters() if self.decay else ():
                    parameter.copy_(own[name])

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self.tensors)

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """From a checkpoint."""
        self.steps = steps
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
