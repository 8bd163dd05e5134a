"""The outcome of a run: front, summary, report, and the few lines that a person reads at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from nas.files import read_json, write_json
from nas.predictors.environment import environment
from nas.quantities import format_bytes, format_count, format_duration, format_energy, format_time
from nas.results.front import FrontRow, front_trials, write_front
from nas.results.metrics import LATENCY, budgets_told, memory, of_target
from nas.results.report import write_report
from nas.results.report_data import (
    CandidatePoint,
    EnergyRow,
    ReportData,
    TargetRow,
    TrainingPoint,
    VerificationRow,
    WinnerMetrics,
)
from nas.search.screening import Saving, saving
from nas.search.types import Trial

if TYPE_CHECKING:
    from nas.results.pipeline import SearchRun
    from nas.results.selection import Winner
    from nas.results.targets import RunTarget
    from nas.results.verification import Verdict

_PLACED = ("accuracy", LATENCY, "params", "macs")
MEASURED, PREDICTED, COMPUTED = "measured", "predicted", "computed"
_NANOSECONDS = 9
"""Digits of an interval's seconds: its last bits depend on the process that fits the predictor again."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run says, in SI units; `summary.json` holds the same.

    `targets` maps the name of each latency beside `latency` to its target, prediction, measurement and the predictor's
    assessment; `energies` each energy that was asked for to the same, its joules missing where nothing counts them here.
    `memory` is the predicted peak of an inference in bytes. Of the `evaluations`, `taken_over` are other runs'; `adapted` are
    the steps that candidates were trained for before they were scored.
    `checks` tells of each budget how the winner was held to it: latency and energy MEASURED as exported or merely PREDICTED,
    sizes COMPUTED of its graph; `verified` is whether nothing was merely predicted. `notes` say, in words, where the winner is
    slower than was measured: in programs that give memory back.
    """

    digest: str
    latency: float
    latency_low: float
    latency_high: float
    latency_p90: float
    latency_p99: float
    latency_predicted: float
    budgets: Mapping[str, float]
    target: str
    accuracy_test: float
    accuracy_validation: float
    params: int
    macs: int
    resolution: int
    num_classes: int
    in_channels: int
    memory: float
    objectives: tuple[str, ...]
    targets: Mapping[str, Mapping[str, Any]]
    evaluations: int
    taken_over: int
    screening: Mapping[str, float]
    predictor: Mapping[str, float]
    durations: Mapping[str, float]
    run: str
    verified: bool = True
    checks: Mapping[str, str] = field(default_factory=dict)
    int8: Mapping[str, Any] | None = None
    energies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    adapted: int = 0
    notes: tuple[str, ...] = ()

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """The closing summary: what was found, how fast, how accurate, where."""
        sizes = f"{format_count(self.params)} parameters, {format_count(self.macs)} MACs"
        if "memory" in (*self.budgets, *self.objectives):
            sizes += f", {format_bytes(self.memory)} of memory"
        interval = f"{format_time(self.latency_low)} to {format_time(self.latency_high)}"
        tail = f"p90 {format_time(self.latency_p90)}, p99 {format_time(self.latency_p99)}"
        error = f"{self.predictor['mape']:.1%}, Spearman {self.predictor['spearman']:.3f}" if self.predictor else "not assessed"
        taken = f", {self.taken_over} taken over" if self.taken_over else ""
        taken += f", {adapted_told(self.adapted)}" if self.adapted else ""
        return [
            ("found", f"{self.digest}: {sizes}"),
            ("latency", f"{format_time(self.latency)}, 95 % interval {interval}, {tail}, measured as exported"),
            ("predicted", f"{format_time(self.latency_predicted)}; mean error on held-out networks {error}"),
            *(("latency", _on_target(one)) for one in self.targets.values()),
            *(("note", text) for text in self.notes),
            *(("energy", _energy_told(one)) for one in self.energies.values()),
            ("budget", budgets_told(self.budgets, self.target)),
            *([] if self.verified else [("unverified", self._unverified_told())]),
            ("accuracy", f"{self.accuracy_test:.2%} on test images, {self.accuracy_validation:.2%} on validation images"),
            *([("int8", self._int8_told(self.int8))] if self.int8 is not None else []),
            (
                "searched",
                f"{self.evaluations - self.taken_over} candidates in {format_duration(sum(self.durations.values()))}{taken}",
            ),
            *([("screened", str(Saving.from_mapping(self.screening)))] if self.screening else []),
            ("files", f"{self.run}/winner (PyTorch, ONNX, torch.export), {self.run}/report.html, {self.run}/front.csv"),
        ]

    def unverified(self) -> dict[str, float]:
        """The budgets that the winner keeps by a prediction alone."""
        return {name: limit for name, limit in self.budgets.items() if self.checks.get(name) == PREDICTED}

    def _unverified_told(self) -> str:
        told = budgets_told(self.unverified(), self.target)
        return f"{told}: kept by the prediction's upper end, and not counted, as nothing counts it here"

    @staticmethod
    def _int8_told(found: Mapping[str, Any]) -> str:
        accuracies = f"{found['test']:.2%} on test images, {found['validation']:.2%} on validation images"
        return f"{accuracies}, of the int8 file; {found['operators']}"


def write_results(run: SearchRun, winner: Winner) -> Outcome:
    """Write front, report and summary, the summary last: a run with a summary is finished."""
    outcome = _outcome(run, winner)
    write_front(run.folder.front_path, _front(run))
    write_report(run.folder.report_path, report_data(run, winner, outcome))
    write_json(run.folder.summary_path, outcome.to_mapping())
    return outcome


def _outcome(run: SearchRun, winner: Winner) -> Outcome:
    found, trial, (classes, channels) = winner.measurements[LATENCY], winner.trial, run.outputs
    saved, checks = saving(run.trials), _checks(run.budgets.limits, winner)
    return Outcome(
        digest=trial.architecture.digest,
        latency=found.median,
        latency_low=found.low,
        latency_high=found.high,
        latency_p90=found.p90,
        latency_p99=found.p99,
        latency_predicted=trial.metrics["latency"],
        budgets=dict(run.budgets.limits),
        target=str(run.target),
        accuracy_test=winner.test,
        accuracy_validation=winner.validation,
        params=int(trial.metrics["params"]),
        macs=int(trial.metrics["macs"]),
        resolution=trial.architecture.resolution,
        num_classes=classes,
        in_channels=channels,
        memory=memory(trial.architecture, run.target, classes, channels),
        objectives=run.config.objectives,
        targets={name: _on(one, winner) for name, one in run.targets.items() if name != LATENCY},
        evaluations=len(run.trials),
        taken_over=sum(bool(trial.origin) for trial in run.trials),
        screening={} if saved is None else saved.to_mapping(),
        predictor=_assessment(run.targets[LATENCY]),
        durations=read_json(run.folder.phases, "phase times"),
        run=str(run.folder.path),
        verified=PREDICTED not in checks.values(),
        checks=checks,
        int8=None if winner.int8 is None else asdict(winner.int8),
        energies={one.energy: _energy(one, one.energy, winner) for one in run.targets.values() if one.energy is not None},
        adapted=run.config.adapt,
        notes=winner.notes,
    )


def _checks(budgets: Iterable[str], winner: Winner) -> dict[str, str]:
    """By what the winner was held to each budget."""
    known = {**winner.measurements, **winner.energies}
    return {name: MEASURED if name in known else PREDICTED if of_target(name) else COMPUTED for name in budgets}


def adapted_told(steps: int) -> str:
    """What an adaptation means for the scores, for people; from what share of the weights is in the run's request."""
    return f"each scored after {steps} steps of training alone"


def _on(one: RunTarget, winner: Winner) -> dict[str, Any]:
    """A further target as the summary has it."""
    found = winner.measurements[one.metric]
    predicted = {"predicted": winner.trial.metrics[one.metric], "predictor": _assessment(one)}
    return {"target": str(one.target), "budget": one.limit, **predicted, **found.to_mapping()}


def _on_target(one: Mapping[str, Any]) -> str:
    interval = f"{format_time(one['low'])} to {format_time(one['high'])}"
    return (
        f"{format_time(one['median'])}, 95 % interval {interval}, predicted {format_time(one['predicted'])}, on {one['target']}"
    )


def _energy(one: RunTarget, name: str, winner: Winner) -> dict[str, Any]:
    """An energy as the summary has it."""
    counted, assessed = winner.energies.get(name), one.energy_assessment()
    return {
        "target": str(one.target),
        "budget": one.energy_limit,
        "predicted": winner.trial.metrics[name],
        "predicted_upper": winner.trial.metrics[f"{name}_upper"],
        "predictor": {} if assessed is None else assessed.to_mapping(),
        **({} if counted is None else counted.to_mapping()),
    }


def _energy_told(one: Mapping[str, Any]) -> str:
    predicted = f"predicted {format_energy(one['predicted'])}, at most {format_energy(one['predicted_upper'])}"
    if "joules" not in one:
        return f"{predicted}, on {one['target']}; not counted, as nothing counts it here"
    interval = f"{format_energy(one['low'])} to {format_energy(one['high'])}"
    told = f"{format_energy(one['joules'])}, 95 % interval {interval}, counted by {one['meter']} as exported"
    return f"{told}; {predicted}, on {one['target']}"


def _assessment(one: RunTarget) -> dict[str, float]:
    found = one.assessment()
    return {} if found is None else found.to_mapping()


def _front(run: SearchRun) -> list[FrontRow]:
    chosen = front_trials(run.trials, run.budgets, run.config.objectives)
    if not chosen:
        return []
    low, high = run.predictor.interval([trial.architecture for trial in chosen], 0.9)
    return [
        FrontRow(
            trial.architecture.digest,
            trial.metrics["accuracy"],
            trial.metrics["latency"],
            round(float(low[i]), _NANOSECONDS),
            round(float(high[i]), _NANOSECONDS),
            int(trial.metrics["params"]),
            int(trial.metrics["macs"]),
            trial.architecture,
            _others(run, trial),
        )
        for i, trial in enumerate(chosen)
    ]


def _others(run: SearchRun, trial: Trial) -> dict[str, float]:
    """Metrics with a budget or among the objectives that have no place of their own in the front and the report."""
    wanted = dict.fromkeys((*run.config.objectives, *run.budgets.limits))
    return {name: trial.metrics[name] for name in wanted if name not in _PLACED and name in trial.metrics}


def report_data(run: SearchRun, winner: Winner, outcome: Outcome) -> ReportData:
    """The run as the report shows it."""
    config, saved = run.config, saving(run.trials)
    told = [*([] if saved is None else [str(saved)]), *([adapted_told(config.adapt)] if config.adapt else [])]
    return ReportData(
        title=f"{run.space.name}: {format_time(outcome.latency)}, {outcome.accuracy_test:.1%} on {config.data}",
        target=str(run.target),
        budgets=outcome.budgets,
        accepted=True,
        unverified=tuple(outcome.unverified()),
        candidates=tuple(_point(run, trial) for trial in run.trials if trial.complete),
        held_out=tuple(run.targets[LATENCY].held_out()),
        objectives=config.objectives,
        targets=tuple(_target_row(one) for one in outcome.targets.values()),
        energies=tuple(_energy_row(one) for one in outcome.energies.values()),
        screening="; ".join(told),
        assessment=outcome.predictor,
        training=tuple(TrainingPoint(row["epoch"], row["loss"], row["largest"]) for row in run.history.rows),
        verification=tuple(_row(verdict) for verdict in run.verdicts),
        winner=winner.trial.architecture,
        winner_metrics=WinnerMetrics(
            outcome.latency,
            outcome.latency_low,
            outcome.latency_high,
            outcome.accuracy_test,
            outcome.accuracy_validation,
            outcome.params,
            outcome.macs,
        ),
        files={
            "winner": f"{outcome.run}/winner",
            "front": f"{outcome.run}/front.csv",
            "archive": config.storage or f"{outcome.run}/study.journal",
        },
        provenance=_provenance(run),
        durations=outcome.durations,
        num_classes=outcome.num_classes,
        in_channels=outcome.in_channels,
    )


def _point(run: SearchRun, trial: Trial) -> CandidatePoint:
    metrics = trial.metrics
    return CandidatePoint(
        trial.number,
        trial.architecture.digest,
        metrics["accuracy"],
        metrics["latency"],
        run.budgets.violation(metrics) == 0.0,
        int(metrics["params"]),
        int(metrics["macs"]),
        _others(run, trial),
        trial.full,
    )


def _target_row(one: Mapping[str, Any]) -> TargetRow:
    return TargetRow(one["target"], one["predictor"], one["predicted"], one["median"], one["low"], one["high"])


def _energy_row(one: Mapping[str, Any]) -> EnergyRow:
    counted = (one.get("joules"), one.get("low"), one.get("high"), one.get("meter", ""))
    return EnergyRow(one["target"], one["predicted"], one["predictor"], *counted)


def _row(verdict: Verdict) -> VerificationRow:
    found = verdict.measurement
    digest = verdict.architecture.digest
    times = verdict.predicted, found.median, found.low, found.high, found.p90, found.p99
    energy = None if verdict.energy is None else verdict.energy.joules
    return VerificationRow(digest, *times, verdict.accepted, found.target, energy)


def _provenance(run: SearchRun) -> dict[str, str]:
    config = run.config
    found = {
        "command": config.command,
        "seed": str(config.seed),
        "strategy": config.strategy,
        "space": f"{run.space.name}, {run.space.size():.3g} architectures",
        "data": f"{config.data}, fingerprint {config.data_fingerprint}",
        "target": str(run.target),
    }
    found |= {name: str(value) for name, value in config.versions.items()}
    return found | {f"machine: {name}": str(value) for name, value in environment(run.target.runtime).items()}
