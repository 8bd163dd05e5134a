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
        self.decay, self.steps = decay, 0
        self.parameters = dict(module.named_parameters()) if decay else {}
        self.tensors = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's present weights."""
        self.steps += 1
        if self.tensors:
            decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(list(self.tensors.values()), list(self.parameters.values()), 1.0 - decay)

    @torch.no_grad()
    def keep(self) -> None:
        """Give the averages to the module for good."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.tensors[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averages inside, and its own weights again afterwards."""
        own = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.keep()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(own[name])

    def state(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self.tensors)

    def restore(self, tensors: dict[str, Tensor], steps: int) -> None:
        """From a checkpoint."""
        self.steps = steps
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
