"""What a report says, as plain values: whoever ran the search fills it in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nas.search_spaces.architecture import Architecture


@dataclass(frozen=True, slots=True)
class CandidatePoint:
    """One evaluated network: accuracy as a fraction, predicted latency in seconds, whether it meets every budget.

    `others` are further metrics by name, in SI units; `full` is false where it was scored on few images alone.
    """

    number: int
    digest: str
    accuracy: float
    latency: float
    feasible: bool
    params: int
    macs: int
    others: Mapping[str, float] = field(default_factory=dict)
    full: bool = True

    def value(self, metric: str) -> float:
        """A metric by name; infinite where it is not known."""
        known = {"latency": self.latency, "params": float(self.params), "macs": float(self.macs)}
        return known.get(metric, self.others.get(metric, math.inf))


@dataclass(frozen=True, slots=True)
class TrainingPoint:
    """The supernet after an epoch: its mean loss, and its validation accuracy where it was measured."""

    epoch: float
    loss: float
    accuracy: float | None = None


@dataclass(frozen=True, slots=True)
class VerificationRow:
    """One network measured as exported; all times in seconds, `low` to `high` is the interval of the median.

    `energy` is what was counted, in joules; None where nothing was.
    """

    digest: str
    predicted: float
    measured: float
    low: float
    high: float
    p90: float
    p99: float
    accepted: bool
    target: str = ""
    energy: float | None = None


@dataclass(frozen=True, slots=True)
class WinnerMetrics:
    """What is known of the winner; None where it was not measured. Times in seconds, accuracies as fractions."""

    latency: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    accuracy_test: float | None = None
    accuracy_validation: float | None = None
    params: int | None = None
    macs: int | None = None


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A further target of a run: what its predictor is worth, and the winner's latency on it, in seconds."""

    target: str
    assessment: Mapping[str, float]
    predicted: float
    measured: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """An energy that a run asked for: the winner's, predicted and as `meter` counted it (None where nothing counts it), in
    joules, with its interval, and what its predictor is worth."""

    target: str
    predicted: float
    assessment: Mapping[str, float]
    counted: float | None = None
    low: float | None = None
    high: float | None = None
    meter: str = ""


@dataclass(frozen=True)
class ReportData:
    """One run. Everything but the title may be missing; the report then says so in its place.

    `budgets` maps `latency` (seconds), `latency@TARGET`, `energy` (joules), `params`, `macs`, `memory` (bytes) to limits;
    `objectives` are traded off by the front; `targets` are those beside `target`, `energies` those that were asked for;
    `screening` tells what scoring few images first has spared.
    `held_out` pairs predicted and measured seconds of networks that the predictor was not fitted on. `assessment` maps `mape`,
    `within_5`, `within_10`, `coverage_90` (fractions), `spearman`, `kendall`, `supernet_kendall` (rank correlations) and others
    to numbers. `accepted` is None where nothing was verified; `unverified` names the budgets that it leaves out, as
    nothing here counts what they limit. `files` maps what a file is to its path.
    """

    title: str
    target: str = ""
    budgets: Mapping[str, float] = field(default_factory=dict)
    objectives: tuple[str, ...] = ("accuracy",)
    targets: tuple[TargetRow, ...] = ()
    energies: tuple[EnergyRow, ...] = ()
    screening: str = ""
    accepted: bool | None = None
    unverified: tuple[str, ...] = ()
    candidates: tuple[CandidatePoint, ...] = ()
    held_out: tuple[tuple[float, float], ...] = ()
    assessment: Mapping[str, float] = field(default_factory=dict)
    training: tuple[TrainingPoint, ...] = ()
    verification: tuple[VerificationRow, ...] = ()
    winner: Architecture | None = None
    winner_metrics: WinnerMetrics | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    provenance: Mapping[str, str] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)
    num_classes: int = 1000
    in_channels: int = 3
