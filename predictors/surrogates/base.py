"""What a surrogate is, and the registry of surrogates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Self, TypeVar

import numpy as np
from scipy.stats import norm

from nas.errors import UsageError
from nas.plugins import discover, lookup
from nas.predictors.assessment import Assessment, assess
from nas.predictors.regression import one_thread
from nas.predictors.surrogates.layout import Integers, Layout
from nas.predictors.surrogates.scale import Scale, ScaleName
from nas.predictors.timings import Array

LEAST_ROWS = 5
BEYOND = 0.3
"""No mean lies farther beyond the fitted values than this share of their range."""


class Surrogate(ABC):
    """A regression that says how sure it is: `fit`, `predict` with mean and deviation, `assess`.

    Everything inside happens on the surrogate's scale (see `Scale`), so that deviations of the log scale are relative errors.
    The same features, values and seed give the same predictions.
    """

    def __init__(self, layout: Layout | None = None, scale: ScaleName = "linear", seed: int = 0) -> None:
        self.layout = layout
        self.scale_name = scale
        self.seed = seed
        self._scale: Scale | None = None
        self._range = (-np.inf, np.inf)
        self._kin: Integers | None = None

    def fit(self, features: Array, values: Array, kin: Integers | None = None) -> Self:
        """Fit to features (n, d) and values (n,).

        `kin` (n,) are numbers, the same for rows that are akin. Where it is given, what is chosen by cross-validation is chosen
        for rows that are akin to none of these: a whole kinship is left out at once. Raises UsageError for fewer than five
        rows, other shapes, and what is not a finite number.
        """
        features, values = np.asarray(features, np.float64), np.asarray(values, np.float64)
        if values.ndim != 1 or features.ndim != 2 or len(features) != len(values) or len(values) < LEAST_ROWS:
            raise UsageError(
                f"a surrogate needs features (n, d) and values (n,) of at least {LEAST_ROWS} rows, "
                f"got {features.shape} and {values.shape}"
            )
        if not (np.isfinite(features).all() and np.isfinite(values).all()):
            raise UsageError("features and values must be finite numbers; leave rows with missing ones out")
        if kin is not None and np.shape(kin) != values.shape:
            raise UsageError(f"kin must be one number for each of the {len(values)} rows, got shape {np.shape(kin)}")
        self.layout, self._kin = self.layout or Layout.whole(features.shape[1]), kin
        self._scale = Scale.fit(self.scale_name, values)
        latent = self._scale.forward(values)
        reach = BEYOND * float(np.ptp(latent))
        self._range = float(latent.min()) - reach, float(latent.max()) + reach
        with one_thread():
            self._fit(self.layout, features, latent)
        return self

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, both (n,), in the units of the values. Raises UsageError before `fit`."""
        mean, low, high = self.interval(features, float(2 * norm.cdf(1) - 1))
        return mean, (high - low) / 2

    def interval(self, features: Array, level: float = 0.9) -> tuple[Array, Array, Array]:
        """Mean, and the ends of the central interval that should hold a share `level` of new values, each (n,)."""
        scale, _ = self._ready()
        latent, deviation = self.latent(features)
        reach = float(norm.ppf(0.5 + level / 2)) * deviation
        return scale.backward(latent), scale.backward(latent - reach), scale.backward(latent + reach)

    def latent(self, features: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (n,) on the surrogate's scale. Means stay near the values that were fitted to."""
        _, layout = self._ready()
        with one_thread():
            mean, deviation = self._predict(layout, np.asarray(features, np.float64))
        return np.clip(mean, *self._range), deviation

    def assess(self, features: Array, values: Array) -> Assessment:
        """How good predictions for features (n, d) are against values (n,) that were not fitted to."""
        return assess(*self._for_assessment(features, values))

    def out_of_fold(self, features: Array, values: Array, folds: list[Array]) -> tuple[Array, Array]:
        """Means and deviations (n,) on the scale of a surrogate that was fitted to these rows, each row's from a fit that
        left its fold out. `folds` are row numbers; surrogates with a shorter way than fitting anew take it."""
        means, deviations = np.zeros(len(values)), np.zeros(len(values))
        _, layout = self._ready()
        for fold in folds:
            rest = np.setdiff1d(np.arange(len(values)), fold)
            part = type(self)(layout, self.scale_name, self.seed)
            part._scale = self._scale
            part._fit(layout, features[rest], self._ready()[0].forward(values[rest]))
            means[fold], deviations[fold] = part._predict(layout, features[fold])
        return means, deviations

    @abstractmethod
    def _fit(self, layout: Layout, features: Array, latent: Array) -> None:
        """Fit to values on the scale."""

    @abstractmethod
    def _predict(self, layout: Layout, features: Array) -> tuple[Array, Array]:
        """Mean and deviation on the scale."""

    def _ready(self) -> tuple[Scale, Layout]:
        if self._scale is None or self.layout is None:
            raise UsageError(f"{type(self).__name__} predicts nothing before fit(features, values)")
        return self._scale, self.layout

    def _for_assessment(self, features: Array, values: Array) -> tuple[Array, Array, Array, Array]:
        mean, low, high = self.interval(features)
        return mean, np.asarray(values, np.float64), low, high


Make = Callable[[Layout | None, ScaleName, int], Surrogate]
S = TypeVar("S", bound=type[Surrogate])


@dataclass(frozen=True, slots=True)
class Registered:
    """A surrogate's name, its line for people, and what makes one."""

    name: str
    summary: str
    make: Make


_SURROGATES: dict[str, Registered] = {}


def register_surrogate(name: str, summary: str) -> Callable[[S], S]:
    """Announce a subclass of `Surrogate` under a name."""

    def announce(made: S) -> S:
        _SURROGATES[name] = Registered(name, summary, made)
        return made

    return announce


@cache
def _discover() -> None:
    discover("nas.predictors.surrogates", "nas.surrogates")


def surrogate_names() -> list[str]:
    """The registered surrogates, sorted."""
    _discover()
    return sorted(_SURROGATES)


def surrogate_summary(name: str) -> str:
    """The line about a surrogate. Raises UnknownNameError, with the nearest one."""
    _discover()
    return lookup("surrogate", name, _SURROGATES).summary


def surrogate(name: str = "auto", *, layout: Layout | None = None, scale: ScaleName = "linear", seed: int = 0) -> Surrogate:
    """A surrogate of that name, not fitted yet. Raises UnknownNameError, with the nearest one."""
    _discover()
    return lookup("surrogate", name, _SURROGATES).make(layout, scale, seed)


def split_folds(n: int, number: int, seed: int, kin: Integers | None = None) -> list[Array]:
    """The row numbers 0 ... n - 1 in `number` random parts of equal size; with `kin` (n,), rows of the same number stay
    together, and the parts are as equal as that allows."""
    order = np.random.default_rng([seed, n]).permutation(n)
    if kin is None or len(np.unique(kin)) < 2:
        return np.array_split(order, min(number, n))
    names, first, counts = np.unique(kin[order], return_index=True, return_counts=True)
    filled = np.zeros(min(number, len(names)))
    part_of = {}
    for place in sorted(range(len(names)), key=lambda place: (-counts[place], first[place])):
        part_of[names[place]] = int(filled.argmin())
        filled[filled.argmin()] += counts[place]
    parts = np.array([part_of[name] for name in kin])
    return np.split(np.argsort(parts, kind="stable"), np.cumsum(np.bincount(parts))[:-1])
