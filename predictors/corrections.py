"""Corrections: what whole networks say beyond the sum of their node times. Cross-validation tells how much each one counts.

A runtime runs each operator faster or slower than it was timed in place, fuses some neighbours and copies maps between
others. All of these are shares of the whole, so they are looked for in the seconds by operator and by norm, in the bytes
that pass between groups of operators, and in the size of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.predictors.surrogates.kernels import Kernel
from nas.predictors.surrogates.layout import Layout
from nas.predictors.surrogates.process import Process
from nas.predictors.surrogates.table import BEND, REWEIGHTINGS, Prices
from nas.predictors.timings import Array

FOLDS = 10
OPERATORS, NORMS, EDGES, SIZE, WORK = "operators", "norms", "edges", "size", "work"
SHARPNESS, EXACT, LEAST = 4, 1e-3, 0.05
"""How steeply a correction counts less the larger its mean squared error is, the deviation below which one is as good as
another, and the share below which it does not count at all."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Architectures as a correction sees them: sums of node times in a network of their size (seconds) and the relative
    errors of these, both (n,), and columns (n, ...) in the groups of `layout`."""

    seconds: Array
    error: Array
    columns: Array
    layout: Layout

    def take(self, rows: NDArray[np.intp]) -> Summary:
        """The architectures of some rows."""
        return Summary(self.seconds[rows], self.error[rows], self.columns[rows], self.layout)


class Corrected(NamedTuple):
    """Logarithms of latencies (seconds), and what the correction itself knows of their deviation (0: nothing), both (n,)."""

    mean: Array
    deviation: Array


class Correction(Protocol):
    """A fitted correction."""

    def __call__(self, new: Summary, *, sure: bool = True) -> Corrected:
        """Corrected latencies; where nobody asks how `sure` they are, without deviations, which may take most of the time."""


Fit = Callable[[Summary, Array], Correction]


@dataclass(frozen=True, slots=True)
class Plain:
    """A correction that gives means alone."""

    mean: Callable[[Summary], Array]

    def __call__(self, new: Summary, *, sure: bool = True) -> Corrected:
        """Corrected latencies, without deviations."""
        return Corrected(self.mean(new), np.zeros(len(new.seconds)))


def power(known: Summary, latency: Array) -> Correction:
    """A factor and an exponent of the sum of node times, by the least relative error, outliers counting less (Huber).

    The sum falls short where networks are large: their weights and maps no longer stay in the caches, as those of a node that
    runs again and again do. It exceeds where a run overlaps what nodes alone cannot; an exponent bends either way.
    """
    middle = float(np.log(known.seconds).mean())

    def design(items: Summary) -> Array:
        return np.stack([np.ones(len(items.seconds)), np.log(items.seconds) - middle], 1)

    columns, wanted, weight = design(known), np.log(latency), np.ones(len(latency))
    for _ in range(REWEIGHTINGS):
        found = np.linalg.lstsq(columns * weight[:, None], wanted * weight, rcond=None)[0]
        error = np.abs(columns @ found - wanted)
        bound = max(BEND * float(np.median(error)), 1e-6)
        weight = np.sqrt(np.minimum(1, bound / np.maximum(error, 1e-12)))
    return Plain(lambda new: np.asarray(design(new) @ found))


def scale(known: Summary, latency: Array) -> Correction:
    """A scale and an overhead of the whole network, neither below zero, by the least relative error, outliers counting less."""
    unit = float(np.median(known.seconds))
    prices = Prices.fit(known.seconds[:, None] / unit, latency / unit, relative=True)
    return Plain(lambda new: np.log(prices(new.seconds[:, None] / unit) * unit))


def work(known: Summary, latency: Array) -> Correction:
    """As `scale`, with prices also for numbers read, for their products with the channels put out, and for nodes.

    Where the times of nodes in place are mostly what eager mode takes to start them, another runtime's are not.
    """

    def amounts(items: Summary) -> Array:
        return np.concatenate([items.seconds[:, None], items.layout.pick(items.columns, WORK)], 1)

    units, unit = amounts(known).mean(0), float(np.median(latency))
    prices = Prices.fit(amounts(known) / units, latency / unit, relative=True)
    return Plain(lambda new: np.log(prices(amounts(new) / units) * unit))


def process(*kernels: Kernel, first: Fit = power) -> Fit:
    """Another correction, times a Gaussian process on the log ratio; see `Process` and `Kernel`."""

    def fit(known: Summary, latency: Array) -> Correction:
        base = first(known, latency)
        start = base(known).mean
        found = Process.fit(kernels, known.layout, known.columns, np.log(latency) - start, np.exp(start))

        def correct(new: Summary, *, sure: bool = True) -> Corrected:
            middle = base(new).mean
            if not sure:
                return Corrected(middle + found.mean(new.layout, new.columns, np.exp(middle)), np.zeros(len(middle)))
            mean, deviation = found.predict(new.layout, new.columns, np.exp(middle))
            return Corrected(middle + mean, deviation)

        return correct

    return fit


MODELS: dict[str, Fit] = {
    "table and power": power,
    "table and scale": scale,
    "table, work and scale": work,
    "table and operators": process(Kernel("share", (OPERATORS,))),
    "table, operators and edges": process(Kernel("share", (OPERATORS,)), Kernel("share", (EDGES,)), Kernel("linear", (SIZE,))),
    "table and process": process(
        Kernel("share", (OPERATORS,)), Kernel("share", (NORMS,)), Kernel("linear", (SIZE,)), Kernel("smooth", (SIZE,), 2.0)
    ),
    "work and process": process(Kernel("share", (OPERATORS,)), Kernel("share", (EDGES,)), first=work),
}


def cross_validated(fit: Fit, summary: Summary, latency: Array) -> tuple[Array, Array]:
    """log(measured / predicted) of every network by a model that was fitted without its fold, and its deviation, both (n,)."""
    rest, deviation = np.empty(len(latency)), np.empty(len(latency))
    folds = np.arange(len(latency)) % min(FOLDS, len(latency))
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        found = fit(summary.take(train), latency[train])(summary.take(test))
        rest[test], deviation[test] = np.log(latency[test]) - found.mean, found.deviation
    return rest, deviation


def shares(residuals: Mapping[str, Array]) -> dict[str, float]:
    """How much each model counts in the mean of all, by its left-out residuals (n,); those that hardly count are missing.

    Errors of models that are about as good differ in part, so that their mean is better than most of them, and which of them
    is the best on some tens of networks is mostly luck.
    """
    scores = {name: max(float(np.mean(rest**2)), EXACT**2) for name, rest in residuals.items()}
    best = min(scores.values())
    found = {name: (best / score) ** SHARPNESS for name, score in scores.items()}
    whole = sum(found.values())
    kept = {name: share for name, share in found.items() if share >= LEAST * whole}
    return {name: share / sum(kept.values()) for name, share in kept.items()}


def averaged(residuals: Mapping[str, Array]) -> Array:
    """Left-out residuals (n,) of the mean of models, whose shares in each fold are those that the other folds' residuals give
    them; these are of models that learned from the fold, which makes little of them."""
    names, number = list(residuals), len(next(iter(residuals.values())))
    folds, found = np.arange(number) % min(FOLDS, number), np.empty(number)
    for fold in np.unique(folds):
        some = shares({name: residuals[name][folds != fold] for name in names})
        found[folds == fold] = np.sum([share * residuals[name][folds == fold] for name, share in some.items()], 0)
    return found


def simplest(residuals: dict[str, Array]) -> str:
    """The first model whose mean absolute residual is within a standard error of the difference from the best one's."""
    best = min(residuals, key=lambda name: float(np.mean(np.abs(residuals[name]))))
    for name, rest in residuals.items():
        excess = np.abs(rest) - np.abs(residuals[best])
        if excess.mean() <= excess.std() / math.sqrt(len(excess)):
            return name
    return best
