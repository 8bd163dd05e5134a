"""The front of one run, or of several together, whatever their budgets and however far they have got."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.errors import UsageError
from nas.predictors.energy_predictor import can_predict
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.results.front import axes_of, front_trials
from nas.results.metrics import (
    ENERGY,
    LATENCY,
    OBJECTIVES,
    PLACED,
    budgets_told,
    canonical_budgets,
    canonical_objectives,
    memory,
    named,
)
from nas.results.origins import identity
from nas.results.report_data import CandidatePoint
from nas.results.run import Run
from nas.results.targets import RunTarget
from nas.search.types import Budgets, Trial, format_metric, merit
from nas.search_spaces.architecture import Architecture

_SHOWN = ("accuracy", "latency", "params", "macs")
_PLACED = ("accuracy", "latency", "params", "macs")


@dataclass(frozen=True)
class Candidate:
    """A trial and the run that it is of."""

    run: str
    trial: Trial

    def to_mapping(self, names: Sequence[str]) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        trial = self.trial
        metrics = {name: trial.metrics[name] for name in names if name in trial.metrics}
        where = {"digest": trial.architecture.digest, "run": self.run, "number": trial.number}
        return {**where, **metrics, "architecture": trial.architecture.to_mapping()}


@dataclass(frozen=True)
class JointFront:
    """Runs read together. `target`, the first run's, is what `latency` means; `supernets` how many the accuracies come from,
    one whose copies were adapted counted apart.
    """

    runs: tuple[str, ...]
    target: Target
    objectives: tuple[str, ...]
    budgets: Budgets
    candidates: tuple[Candidate, ...]
    supernets: int

    def front(self) -> list[Candidate]:
        """The candidates scored in full and within the budgets that no other beats in all objectives, fastest first."""
        chosen = front_trials([one.trial for one in self.candidates], self.budgets, self.objectives)
        owners = {id(one.trial): one for one in self.candidates}
        return [owners[id(trial)] for trial in chosen]

    def closest(self) -> Candidate | None:
        """The candidate scored in full that breaks the budgets least; None where one meets them, or none was scored."""
        full = [one for one in self.candidates if one.trial.full]
        found = min(full, key=lambda one: (self.budgets.violation(one.trial.metrics), *merit(one.trial)), default=None)
        return None if found is None or self.budgets.violation(found.trial.metrics) == 0.0 else found

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics to show."""
        return tuple(dict.fromkeys((*_SHOWN, *self.objectives, *self.budgets.limits)))

    def points(self) -> list[CandidatePoint]:
        """All candidates as a plot shows them."""
        return [_point(one.trial, self.budgets) for one in self.candidates]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        closest = self.closest()
        return {
            "runs": list(self.runs),
            "target": str(self.target),
            "objectives": list(axes_of(self.objectives)),
            "budgets": dict(self.budgets.limits),
            "candidates": len(self.candidates),
            "supernets": self.supernets,
            "front": [one.to_mapping(self.names) for one in self.front()],
            "closest": None if closest is None else closest.to_mapping(self.names),
        }

    def lines(self) -> list[str]:
        """The front as a table; where it is empty, the candidate closest to the budgets, and what it breaks.

        What it breaks is told by the upper end of a prediction, which is what a budget limits, the table by its middle.
        """
        front, closest = self.front(), self.closest()
        head = ["network", *(["run"] if len(self.runs) > 1 else []), *self.names]
        rows = [head]
        for one in front:
            values = [format_metric(name, one.trial.metrics[name]) if name in one.trial.metrics else "" for name in self.names]
            rows.append([one.trial.architecture.digest, *([one.run] if len(self.runs) > 1 else []), *values])
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        told = budgets_told(self.budgets.limits, str(self.target))
        of = f"{len(front)} of {len(self.candidates)} candidates, latency on {self.target}, budget: {told}"
        if closest is None:
            return [*table, of]
        excess = self.budgets.excess(closest.trial.metrics)
        return [*table, f"none meets the budgets; the closest, {closest.trial.architecture.digest}, breaks {excess}", of]


def joint_front(runs: Sequence[Run], objectives: Sequence[str] = (), budgets: Mapping[str, float] | None = None) -> JointFront:
    """Read runs together; without objectives and budgets those of the first one hold.

    A latency means the same target in all of them, `latency` that of the first run. What a run did not ask for is filled in, a
    latency by the predictor of the run that profiled its target. An architecture that was taken over from one run into another
    counts once. Raises UsageError where an objective or a metric with a budget cannot be told.
    """
    first = runs[0].config()
    own = Target.parse(first.target)
    wanted = canonical_objectives(objectives or first.objectives, own)
    limits = canonical_budgets(first.budgets if budgets is None else budgets, own)
    found: dict[tuple[str, str], Candidate] = {}
    missing = _Missing(runs, own)
    identities = {run: identity(run) if len(runs) > 1 else "" for run in runs}
    for run in runs:
        for trial in _trials(run, own):
            if trial.complete:
                known = missing.filled(run, trial, [*axes_of(wanted), *limits])
                found.setdefault((identities[run], trial.architecture.digest), Candidate(str(run.path), known))
    names = tuple(str(run.path) for run in runs)
    return JointFront(names, own, wanted, Budgets(limits), tuple(found.values()), len(set(identities.values())))


def _trials(run: Run, own: Target) -> list[Trial]:
    """The trials of a run, with its latencies and energies called as a run on the target `own` calls them."""
    with run.archive() as archive:
        trials = archive.trials()
    new = {
        kind + metric.removeprefix(LATENCY) + end: named(kind, target, own) + end
        for metric, target in run.config().latencies().items()
        for kind in PLACED
        for end in ("", "_upper")
    }
    return [replace(trial, metrics={new.get(name, name): value for name, value in trial.metrics.items()}) for trial in trials]


class _Missing:
    """Tells what runs did not ask for: sizes by the graph, latencies and energies by the predictors of all of them."""

    def __init__(self, runs: Sequence[Run], own: Target) -> None:
        self.own = own
        self._files = [
            (str(target), run.table_of(metric, target))
            for run in reversed(runs)
            for metric, target in run.config().latencies().items()
            if run.table_of(metric, target).exists()
        ]
        self._loaded: dict[tuple[str, str], RunTarget] = {}

    @cached_property
    def _tables(self) -> dict[str, dict[str, Path]]:
        """The files that tell latencies and energies, by the target; the first run's where several do."""
        counted = [(place, path) for place, path in self._files if can_predict(LatencyTable.load(path))]
        return {LATENCY: dict(self._files), ENERGY: dict(counted)}

    def filled(self, run: Run, trial: Trial, names: Sequence[str]) -> Trial:
        """The trial with these metrics. Raises UsageError for one that cannot be told."""
        metrics = dict(trial.metrics)
        for name in names:
            if name not in metrics:
                metrics |= self._told(name, trial.architecture)
            if name not in metrics:
                # Trials hold more, as how long they took, that is neither an objective nor a budget.
                known = ", ".join(sorted(other for other in metrics if other.partition("@")[0] in OBJECTIVES))
                raise UsageError(f"run {run.path} knows no {name} of its candidates; leave it out or take one of {known}")
        return replace(trial, metrics=metrics)

    def _told(self, name: str, architecture: Architecture) -> dict[str, float]:
        kind, _, where = name.partition("@")
        place = where or str(self.own)
        if kind in PLACED and place in self._tables[kind]:
            return self._target(kind, place).describe(architecture)
        if kind == "memory" and self._files:
            table = self._target(LATENCY, self._files[0][0]).predictor.table
            return {kind: memory(architecture, self.own, table.num_classes, table.in_channels)}
        return {}

    def _target(self, kind: str, place: str) -> RunTarget:
        """What tells the latency or the energy of a target."""
        if (kind, place) not in self._loaded:
            target = Target.parse(place)
            energy = named(ENERGY, target, self.own) if kind == ENERGY else None
            one = RunTarget(named(LATENCY, target, self.own), target, self._tables[kind][place], None, None, energy)
            one.load([])
            self._loaded[kind, place] = one
        return self._loaded[kind, place]


def _point(trial: Trial, budgets: Budgets) -> CandidatePoint:
    metrics = trial.metrics
    sizes = int(metrics.get("params", 0)), int(metrics.get("macs", 0))
    others = {name: value for name, value in metrics.items() if name not in _PLACED}
    legal = budgets.violation(metrics) == 0.0
    latency = metrics.get("latency", 0.0)
    return CandidatePoint(
        trial.number, trial.architecture.digest, metrics["accuracy"], latency, legal, *sizes, others, trial.full
    )
