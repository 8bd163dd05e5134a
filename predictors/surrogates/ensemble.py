"""Surrogates weighted by their cross-validated errors.

Caruana et al. 2004, Ensemble selection from libraries of models: starting from some copies of the simplest member
that is as good as any within a standard error, the member that lowers the error of the mean most is added, again and again
and with repetition; how often a member was added is its weight. Only the rows that are fitted to choose.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nas.predictors.surrogates.base import Surrogate, register_surrogate, split_folds, surrogate
from nas.predictors.surrogates.layout import STAGES, Layout
from nas.predictors.surrogates.scale import ScaleName
from nas.predictors.timings import Array

ROUNDS, HEAD_START = 20, 5
FOLDS, MANY, FEWER_FOLDS = 5, 400, 3
LEVEL, REACH = 0.9, 1.6448536269514722
"""Deviations are scaled so that this share of the rows, left out, lies within so many of them."""
NEEDS = {"fine_table": STAGES}
"""Members that say nothing where a layout lacks a group of columns."""


class EnsembleSurrogate(Surrogate):
    """The weighted mean of members, and their weighted deviation, scaled to what the left-out rows showed."""

    members: ClassVar[dict[ScaleName, tuple[str, ...]]]

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the members that have one."""
        self._ready()
        return dict(self._weights)

    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        scale, _ = self._ready()
        values = scale.backward(latent)
        number = FOLDS if len(latent) < MANY or self._kin is not None else FEWER_FOLDS
        folds = split_folds(len(latent), number, self.seed, self._kin)
        names = [name for name in self.members[self.scale_name] if NEEDS.get(name, layout.names[0]) in layout.names]
        found = {name: surrogate(name, layout=layout, scale=self.scale_name, seed=self.seed) for name in names}
        left_out = {name: one.fit(features, values).out_of_fold(features, values, folds) for name, one in found.items()}
        self._weights = _selected({name: mean for name, (mean, _) in left_out.items()}, latent)
        self._members = {name: found[name] for name in self._weights}
        mean = sum((w * left_out[name][0] for name, w in self._weights.items()), np.zeros(len(latent)))
        deviation = sum((w * left_out[name][1] for name, w in self._weights.items()), np.zeros(len(latent)))
        strayed = np.abs(latent - mean) / np.maximum(deviation, 1e-12)
        place = min(1.0, LEVEL * (1 + 1 / len(latent)))
        self._stretch = max(float(np.quantile(strayed, place)) / REACH, 0.05)

    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        mean, deviation = np.zeros(len(features)), np.zeros(len(features))
        for name, weight in self._weights.items():
            one, spread = self._members[name].latent(features)
            mean += weight * one
            deviation += weight * spread
        return mean, self._stretch * deviation


def _selected(left_out: dict[str, Array], latent: Array) -> dict[str, float]:
    """The share of the rounds in which each member was added, of those that were, given what they predict left out."""
    chosen = [_simplest({name: np.abs(mean - latent) for name, mean in left_out.items()})] * HEAD_START
    total = HEAD_START * left_out[chosen[0]]
    for round_ in range(HEAD_START + 1, ROUNDS + 1):
        errors = {name: float(np.abs((total + mean) / round_ - latent).mean()) for name, mean in left_out.items()}
        best = min(errors, key=lambda name: errors[name])
        chosen.append(best)
        total += left_out[best]
    return {name: chosen.count(name) / ROUNDS for name in left_out if name in chosen}


def _simplest(errors: dict[str, Array]) -> str:
    """The first member, the simpler ones standing first, whose mean error is within a standard error of the best one's."""
    best = errors[min(errors, key=lambda name: float(errors[name].mean()))]
    return next(
        name for name, error in errors.items() if (error - best).mean() <= (error - best).std() / np.sqrt(len(error)) + 1e-12
    )


@register_surrogate("ensemble", "ridge, boosting and a Weisfeiler-Lehman process, weighted by cross-validation")
class Ensemble(EnsembleSurrogate):
    """Three members that work on any features."""

    members: ClassVar[dict[ScaleName, tuple[str, ...]]] = dict.fromkeys(
        ("linear", "log", "rank"), ("ridge", "boosting", "wl_gp")
    )


@register_surrogate("auto", "what suits the scale, weighted by cross-validation: the default")
class Auto(EnsembleSurrogate):
    """For times tables, tables times residuals, and a process; for accuracies processes, trees and a ridge."""

    members: ClassVar[dict[ScaleName, tuple[str, ...]]] = {
        "log": ("table", "table_absolute", "fine_table", "table_gp", "gp", "table_boosting"),
        "rank": ("ridge", "wl_gp", "boosting", "gp"),
        "linear": ("ridge", "wl_gp", "boosting", "gp"),
    }
