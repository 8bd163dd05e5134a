"""A heteroscedastic network: it predicts a mean and, by itself, how noisy the value is there.

In the manner of BOSHNAS (Tuli et al. 2022, FlexiBERT, arXiv:2205.11656): aleatoric uncertainty by a head of its own under the
Gaussian likelihood, epistemic uncertainty by dropout. There, second-order gradients optimise the input; here a
second-order method (L-BFGS) fits the weights too, which small networks on a few hundred rows allow. Each member keeps one
dropout mask for good, so that fitting is deterministic and the members' disagreement is the epistemic part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.predictors.regression import Scaler
from nas.predictors.surrogates.base import Surrogate, register_surrogate
from nas.predictors.surrogates.layout import LABELS, Layout
from nas.predictors.timings import Array

MEMBERS, HIDDEN, DROPOUT = 8, 32, 0.2
ITERATIONS, DECAY = 60, 0.02
NARROWEST = -3.0
"""The logarithm of the smallest standard deviation, against the values' own."""


class _Members(nn.Module):
    """Several two-layer networks side by side, each under its own dropout mask: (n, d) -> mean and log deviation (m, n)."""

    mask: Tensor

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        shape = (MEMBERS, width, HIDDEN)
        self.first = nn.Parameter(torch.randn(shape, generator=generator) / width**0.5)
        self.bias = nn.Parameter(torch.zeros(MEMBERS, 1, HIDDEN))
        self.second = nn.Parameter(torch.randn(MEMBERS, HIDDEN, 2, generator=generator) * 0.1 / HIDDEN**0.5)
        self.linear = nn.Parameter(torch.zeros(MEMBERS, width, 2))
        self.offset = nn.Parameter(torch.zeros(MEMBERS, 1, 2))
        kept = torch.rand(MEMBERS, 1, HIDDEN, generator=generator) >= DROPOUT
        self.register_buffer("mask", kept / (1 - DROPOUT), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.tanh(x @ self.first + self.bias) * self.mask
        found = hidden @ self.second + x @ self.linear + self.offset
        return found[..., 0], NARROWEST + nn.functional.softplus(found[..., 1] - NARROWEST)


@register_surrogate("boshnas", "networks that predict their own noise, fitted by L-BFGS, in the manner of BOSHNAS")
class BoshnasSurrogate(Surrogate):
    """Eight small networks; the deviation is their own noise and their disagreement together."""

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        columns = _columns(layout, features)
        self._scaler = Scaler.fit(columns)
        self._centre, self._unit = float(latent.mean()), max(float(latent.std()), 1e-9)
        x = torch.from_numpy(self._scaler(columns) / columns.shape[1] ** 0.5)
        y = torch.from_numpy((latent - self._centre) / self._unit)
        generator = torch.Generator().manual_seed(self.seed)
        self._network = _Members(x.shape[1], generator).double()
        _fit_members(self._network, x, y)

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        with torch.no_grad():
            mean, deviation = self._summary(torch.from_numpy(_columns(layout, features)))
        return mean.numpy(), deviation.numpy()

    def summary(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (n,) on the scale, differentiable by the features (n, d), float64, which hold no labels.

        Unlike `predict` it does not keep means near the values that were fitted to, where no gradient would be left.
        Raises UsageError before `fit`, and for a layout with labels.
        """
        _, layout = self._ready()
        if LABELS in layout.names:
            raise UsageError("gradients by features need a layout without labels, which no small step changes")
        return self._summary(features)

    def _summary(self, columns: Tensor) -> tuple[Tensor, Tensor]:
        centre, spread = torch.from_numpy(self._scaler.mean), torch.from_numpy(self._scaler.deviation)
        means, logs = self._network((columns - centre) / spread / columns.shape[1] ** 0.5)
        variance = torch.exp(2 * logs).mean(0) + means.var(0)
        return self._centre + self._unit * means.mean(0), self._unit * torch.sqrt(variance)


def _fit_members(network: _Members, x: Tensor, y: Tensor) -> None:
    """Minimise the members' negative log-likelihoods with weight decay."""
    weights = [network.first, network.second, network.linear]
    optimiser = torch.optim.LBFGS(network.parameters(), max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        means, logs = network(x)
        likelihood = (0.5 * ((means - y) * torch.exp(-logs)) ** 2 + logs).mean(1).sum()
        total = likelihood + DECAY * torch.stack([(weight**2).sum() for weight in weights]).sum() / len(y) ** 0.5
        total.backward()
        return total

    optimiser.step(loss)


def _columns(layout: Layout, features: Array) -> Array:
    return layout.pick(features, *(name for name in layout.names if name != LABELS))
