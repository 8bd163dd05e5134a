"""Small neural surrogates in torch: several networks trained side by side as one batch of matrices."""

from __future__ import annotations

import itertools
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Array = NDArray[np.float64]
STEPS = 150
RATE = 0.02
DECAY = 1e-4
LEAST_NOISE = -7.0


class Networks:
    """`members` networks of two hidden layers, each with a mean and a logarithmic noise, all trained on the same values.

    They differ by their initial weights and by the bootstrap weights of the rows. `predict` gives the mean of the means and
    a deviation that holds their disagreement and, where `heteroscedastic`, the noise that they learned (Lakshminarayanan
    et al. 2017, arXiv:1612.01474). Adam, full batches; deterministic in the seed.
    """

    def __init__(self, members: int = 5, hidden: int = 48, heteroscedastic: bool = False, seed: int = 0) -> None:
        self.members, self.hidden, self.heteroscedastic, self.seed = members, hidden, heteroscedastic, seed

    def fit(self, features: Array, values: Array) -> Self:
        """Learn `values` (n,) of `features` (n, width)."""
        draws = torch.Generator().manual_seed(self.seed)
        self._mean, self._spread = float(values.mean()), float(values.std()) or 1.0
        x = torch.as_tensor(features, dtype=torch.float32)
        y = torch.as_tensor((values - self._mean) / self._spread, dtype=torch.float32)
        sizes = (x.shape[1], self.hidden, self.hidden, 2)
        self._weights = [
            (torch.randn(self.members, a, b, generator=draws) * (2.0 / a) ** 0.5 * (0.1 if b == 2 else 1.0)).requires_grad_()
            for a, b in itertools.pairwise(sizes)
        ]
        self._biases = [torch.zeros(self.members, 1, b, requires_grad=True) for b in sizes[1:]]
        rows = -torch.log(torch.rand(self.members, len(y), generator=draws).clamp_min(1e-6))
        optimiser = torch.optim.Adam([*self._weights, *self._biases], lr=RATE, weight_decay=DECAY)
        for _ in range(STEPS):
            optimiser.zero_grad()
            self._loss(x, y, rows).backward()
            optimiser.step()
        return self

    def _loss(self, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        mean, noise = self.outputs(x)
        errors = (mean - y) ** 2
        if self.heteroscedastic:
            errors = errors * torch.exp(-noise) + noise
        return (rows * errors).mean(dim=1).sum()

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each member's mean and logarithmic variance of noise, (members, n), of features (n, width), differentiable."""
        found = x.expand(self.members, *x.shape)
        last = len(self._weights) - 1
        for layer, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            found = found @ weight + bias
            found = F.softplus(found) if layer < last else found
        return found[..., 0], found[..., 1].clamp(LEAST_NOISE, 3.0)

    def summary(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (n,), in units of the standardised values, differentiable."""
        mean, noise = self.outputs(x)
        variance = mean.var(dim=0, unbiased=False)
        variance = variance + torch.exp(noise).mean(dim=0) if self.heteroscedastic else variance
        return mean.mean(dim=0), torch.sqrt(variance + 1e-9)

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and deviation, both (n,)."""
        with torch.no_grad():
            mean, deviation = self.summary(torch.as_tensor(features, dtype=torch.float32))
        return mean.double().numpy() * self._spread + self._mean, deviation.double().numpy() * self._spread
