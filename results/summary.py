"""The outcome of a run: front, summary, report, and the few lines that a person reads at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from nas.files import read_json, write_json
from nas.predictors.environment import environment
from nas.predictors.latency_table import HELD_OUT
from nas.quantities import format_count, format_duration, format_time
from nas.results.front import FrontRow, pareto, write_front
from nas.results.report import write_report
from nas.results.report_data import CandidatePoint, ReportData, TrainingPoint, VerificationRow, WinnerMetrics
from nas.search.types import Trial

if TYPE_CHECKING:
    from nas.results.pipeline import SearchRun
    from nas.results.selection import Winner
    from nas.results.verification import Verdict

_NANOSECONDS = 9
"""Digits of an interval's seconds: its last bits depend on the process that fits the predictor again."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run says, in SI units; `summary.json` holds the same."""

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
    evaluations: int
    predictor: Mapping[str, float]
    durations: Mapping[str, float]
    run: str
    verified: bool = True
    int8: Mapping[str, Any] | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return asdict(self)

    def lines(self) -> list[tuple[str, str]]:
        """The closing summary: what was found, how fast, how accurate, where."""
        limits = ", ".join(
            f"{name} {format_time(limit) if name == 'latency' else format_count(limit)}" for name, limit in self.budgets.items()
        )
        interval = f"{format_time(self.latency_low)} to {format_time(self.latency_high)}"
        tail = f"p90 {format_time(self.latency_p90)}, p99 {format_time(self.latency_p99)}"
        error = f"{self.predictor['mape']:.1%}, Spearman {self.predictor['spearman']:.3f}" if self.predictor else "not assessed"
        rows = [
            ("found", f"{self.digest}: {format_count(self.params)} parameters, {format_count(self.macs)} MACs"),
            ("latency", f"{format_time(self.latency)}, 95 % interval {interval}, {tail}, measured as exported"),
            ("predicted", f"{format_time(self.latency_predicted)}; mean error on held-out networks {error}"),
            ("budget", f"{limits or 'none'} on {self.target}"),
            ("accuracy", f"{self.accuracy_test:.2%} on test images, {self.accuracy_validation:.2%} on validation images"),
            ("searched", f"{self.evaluations} candidates in {format_duration(sum(self.durations.values()))}"),
            ("files", f"{self.run}/winner (PyTorch, ONNX, torch.export), {self.run}/report.html, {self.run}/front.csv"),
        ]
        if self.int8 is not None:
            told = f"{self.int8['test']:.2%} on test images, {self.int8['validation']:.2%} on validation images"
            rows.insert(5, ("int8", f"{told}, of the int8 file; {self.int8['operators']}"))
        return rows


def write_results(run: SearchRun, winner: Winner) -> Outcome:
    """Write front, report and summary, the summary last: a run with a summary is finished."""
    outcome = _outcome(run, winner)
    write_front(run.folder.front_path, _front(run))
    write_report(run.folder.report_path, report_data(run, winner, outcome))
    write_json(run.folder.summary_path, outcome.to_mapping())
    return outcome


def _outcome(run: SearchRun, winner: Winner) -> Outcome:
    found, trial = winner.measurement, winner.trial
    classes, channels = run.outputs
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
        evaluations=len(run.trials),
        predictor=_assessment(run),
        durations=read_json(run.folder.phases, "phase times"),
        run=str(run.folder.path),
        int8=None if winner.int8 is None else asdict(winner.int8),
    )


def _assessment(run: SearchRun) -> dict[str, float]:
    held = list(run.predictor.table.of_role(HELD_OUT))
    if not held:
        return {}
    return run.predictor.assess([item.architecture for item in held], [item.measurement.median for item in held]).to_mapping()


def _feasible(run: SearchRun) -> list[Trial]:
    return [trial for trial in run.trials if trial.complete and run.budgets.violation(trial.metrics) == 0.0]


def _front(run: SearchRun) -> list[FrontRow]:
    trials = _feasible(run)
    chosen = [trials[i] for i in pareto([(trial.metrics["latency"], trial.metrics["accuracy"]) for trial in trials])]
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
        )
        for i, trial in enumerate(chosen)
    ]


def report_data(run: SearchRun, winner: Winner, outcome: Outcome) -> ReportData:
    """The run as the report shows it."""
    held = list(run.predictor.table.of_role(HELD_OUT))
    predicted = list(run.predictor.predict([item.architecture for item in held]).mean) if held else []
    config = run.config
    return ReportData(
        title=f"{run.space.name}: {format_time(outcome.latency)}, {outcome.accuracy_test:.1%} on {config.data}",
        target=str(run.target),
        budgets=outcome.budgets,
        accepted=outcome.verified,
        candidates=tuple(_point(run, trial) for trial in run.trials if trial.complete),
        held_out=tuple((float(p), item.measurement.median) for p, item in zip(predicted, held, strict=True)),
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
            "archive": f"{outcome.run}/study.journal",
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
    )


def _row(verdict: Verdict) -> VerificationRow:
    found = verdict.measurement
    digest = verdict.architecture.digest
    times = verdict.predicted, found.median, found.low, found.high, found.p90, found.p99
    return VerificationRow(digest, *times, verdict.accepted)


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
