"""The values of a search: what is asked for (`Problem`, `Budgets`), what was found (`Trial`), and which of these is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.errors import UsageError
from nas.quantities import format_bytes, format_count, format_energy, format_time
from nas.search.space import Space
from nas.search_spaces.architecture import Architecture

COMPLETE = "complete"
SCREENED = "screened"
PASSED_OVER = "passed over"
FAILED = "failed"
MAXIMISED = frozenset({"accuracy"})
_FORMATS: Mapping[str, Callable[[float], str]] = {
    "accuracy": lambda value: f"{value:.2%}",
    "loss": lambda value: f"{value:.4g}",
    "latency": format_time,
    "latency_upper": format_time,
    "seconds": format_time,
    "memory": format_bytes,
    "energy": format_energy,
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One finished candidate. `metrics` are in SI units; `error` is the message of a failed evaluation.

    Its `state` is COMPLETE, SCREENED (scored on few images alone, see `nas.search.screening`), PASSED_OVER (turned down by a
    cheap score of another kind and not scored at all, so that it has no objectives) or FAILED. `repeat` counts the earlier
    trials of the same architecture, which a search repeats only where its feedback is noisy. `origin` names the run that a
    trial was taken over from.
    """

    number: int
    architecture: Architecture
    state: str
    metrics: Mapping[str, float]
    error: str | None = None
    repeat: int = 0
    origin: str = ""

    @property
    def complete(self) -> bool:
        """Whether it has its objectives, be it by few images alone."""
        return self.state in (COMPLETE, SCREENED)

    @property
    def failed(self) -> bool:
        """Whether its evaluation ended in an error."""
        return self.state == FAILED

    @property
    def full(self) -> bool:
        """Whether it was scored in full: only then may it win."""
        return self.state == COMPLETE


@dataclass(frozen=True)
class Budgets:
    """Hard upper limits by metric, in SI units: `{"latency": 0.005, "params": 5e6}`.

    A limit holds for the upper end of a prediction where there is one: "latency" limits `latency_upper`. Raises UsageError
    for a limit that is not a finite number above zero.
    """

    limits: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric, limit in self.limits.items():
            if not (isinstance(limit, (int, float)) and math.isfinite(limit) and limit > 0):
                raise UsageError(f"the budget of {metric} must be a finite number above zero, got {limit!r}")

    def used(self, metric: str, metrics: Mapping[str, float]) -> float:
        """What `metrics` spend of the budget of a metric; infinite where they do not tell, or tell no number."""
        value = metrics.get(f"{metric}_upper", metrics.get(metric, math.inf))
        return math.inf if math.isnan(value) else value

    def violation(self, metrics: Mapping[str, float]) -> float:
        """The sum over all budgets of the relative excess `value / limit - 1`; 0.0 means that every budget is met."""
        return sum(max(0.0, self.used(metric, metrics) / limit - 1.0) for metric, limit in self.limits.items())

    def worst(self, metrics: Mapping[str, float]) -> str:
        """The metric with the largest relative excess."""
        return max(self.limits, key=lambda metric: self.used(metric, metrics) / self.limits[metric])

    def excess(self, metrics: Mapping[str, float]) -> str:
        """The budgets that are broken, and by how much: `latency 6.1 ms over 5 ms (+22 %)`; empty where all are met."""
        found = []
        for metric, limit in self.limits.items():
            used = self.used(metric, metrics)
            if used > limit:
                value, most = format_metric(metric, used), format_metric(metric, limit)
                found.append(f"{metric} {value} over {most} ({used / limit - 1:+.0%})")
        return ", ".join(found)

    def __str__(self) -> str:
        """`latency 5 ms, params 5M`, or `none`."""
        return ", ".join(f"{metric} {format_metric(metric, limit)}" for metric, limit in self.limits.items()) or "none"


class Problem:
    """What is searched: a space, the budgets, the objectives, and how to `describe` a candidate without evaluating it.

    `describe` gives the cheap metrics (latency, latency_upper, params, macs, ...). Of the objectives accuracy is maximised
    and every other metric minimised. An architecture may be evaluated `repeats` times more where evaluations are noisy.
    Raises UsageError where `describe` does not know a metric that has a budget.
    """

    def __init__(
        self,
        space: Space,
        describe: Callable[[Any], Mapping[str, float]],
        budgets: Budgets | None = None,
        objectives: tuple[str, ...] = ("accuracy",),
        repeats: int = 0,
    ) -> None:
        if not objectives:
            raise UsageError("a search needs at least one objective, e.g. 'accuracy'")
        self.space = space
        self.budgets = budgets or Budgets()
        self.objectives = objectives
        self.repeats = repeats
        self._describe = describe
        self._cheap: dict[str, Mapping[str, float]] = {}

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        """The cheap metrics of an architecture, described once per digest."""
        found = self._cheap.get(architecture.digest)
        if found is None:
            found = self._describe(architecture)
            for metric in self.budgets.limits:
                if metric not in found and f"{metric}_upper" not in found:
                    raise UsageError(f"nothing predicts {metric!r}, which has a budget; budgets may limit {sorted(found)}")
            self._cheap[architecture.digest] = found
        return found

    def violation(self, architecture: Architecture) -> float:
        """By how much an architecture breaks the budgets; 0.0 if it is feasible."""
        return self.budgets.violation(self.cheap(architecture))

    def costs(self, trial: Trial) -> tuple[float, ...]:
        """The objectives of a complete trial, each so that less is better."""
        return tuple(-trial.metrics[name] if name in MAXIMISED else trial.metrics[name] for name in self.objectives)


def merit(trial: Trial) -> tuple[float, float, float, int]:
    """A sorting key, best first: accuracy from high to low, then loss, latency and number from low to high.

    What is missing or no number comes last.
    """
    costs = (
        -trial.metrics.get("accuracy", math.nan),
        trial.metrics.get("loss", math.nan),
        trial.metrics.get("latency", math.nan),
    )
    accuracy, loss, latency = (math.inf if math.isnan(cost) else cost for cost in costs)
    return accuracy, loss, latency, trial.number


def best(trials: Iterable[Trial], budgets: Budgets) -> Trial | None:
    """The best trial that was scored in full and meets all budgets, or None."""
    legal = (trial for trial in trials if trial.full and budgets.violation(trial.metrics) == 0.0)
    return min(legal, key=merit, default=None)


def format_metric(metric: str, value: float) -> str:
    """A value of a metric as people write it: `4.52 ms`, `28.3M`; `latency@TARGET` is a latency."""
    return _FORMATS.get(metric.partition("@")[0], format_count)(value)
