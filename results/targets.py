"""The targets of a run: for each its latency table, the predictor fitted to it, and what was measured on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas.errors import FileError
from nas.predictors.assessment import Assessment
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_table import HELD_OUT, LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.results.feasibility import require_table
from nas.results.verification import Verdict
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace

CONFIDENCE = 0.95


class RunTarget:
    """One target of a run. `metric` is what its latency is called, `limit` its budget in seconds.

    `path` is where the run keeps its table, `given` the file that was given instead of profiling.
    """

    def __init__(self, metric: str, target: Target, path: Path, limit: float | None, given: str | None) -> None:
        self.metric, self.target, self.path, self.limit = metric, target, path, limit
        self.given = None if given is None else Path(given)
        self.predictor: LatencyPredictor

    def require_given(self, num_classes: int, in_channels: int, space: SearchSpace) -> list[str]:
        """What to say of the table that was given and is not taken over yet. Raises FileError where it cannot be used."""
        if self.given is None or self.path.exists():
            return []
        return require_table(self.given, self.target, num_classes, in_channels, space)

    def take_given(self) -> bool:
        """Take over the table that was given, if there is one."""
        if self.given is not None and not self.path.exists():
            LatencyTable.load(self.given, self.target).save(self.path)
        return self.given is not None

    @property
    def given_speed(self) -> float | None:
        """What `speed` will be, where a table is given."""
        return None if self.given is None else LatencyTable.load(self.given, self.target).anchor

    def load(self, verdicts: Sequence[Verdict]) -> None:
        """Fit the predictor to the table and to the networks that were measured over the budget so far."""
        self.predictor = LatencyPredictor.fit(LatencyTable.load(self.path, self.target))
        rejected = [verdict for verdict in self.of(verdicts) if not verdict.accepted]
        if rejected:
            self.predictor.correct([item.architecture for item in rejected], [item.measurement for item in rejected])

    def of(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts on this target."""
        return [verdict for verdict in verdicts if verdict.measurement.target == str(self.target)]

    def describe(self, architecture: Architecture) -> dict[str, float]:
        """The predicted latency (s) and its upper bound."""
        # Sums of floats differ in their last bits with where the memory lies; seven digits are the same in every process.
        return {
            self.metric: float(f"{self.predictor.predict([architecture]).mean[0]:.7g}"),
            f"{self.metric}_upper": float(f"{self.predictor.upper([architecture], CONFIDENCE)[0]:.7g}"),
        }

    def judge(self, architecture: Architecture, found: Measurement, *, final: bool) -> Verdict:
        """The verdict on a measurement at the speed of the table; the predictor learns from one over the budget."""
        predicted = float(self.predictor.predict([architecture]).mean[0])
        verdict = Verdict(architecture, predicted, found, self.limit is None or found.high <= self.limit, final)
        if not verdict.accepted:
            self.predictor.correct([architecture], [found])
        return verdict

    @property
    def speed(self) -> float | None:
        """The anchor's time (seconds) at the speed of the machine that the table's times are told at."""
        return self.predictor.table.anchor

    def assessment(self) -> Assessment | None:
        """How well the held-out networks are predicted; None without any."""
        held = list(self.predictor.table.of_role(HELD_OUT))
        if not held:
            return None
        return self.predictor.assess([item.architecture for item in held], [item.measurement.median for item in held])

    def held_out(self) -> list[tuple[float, float]]:
        """Predicted and measured seconds of the held-out networks."""
        held = list(self.predictor.table.of_role(HELD_OUT))
        if not held:
            return []
        predicted = self.predictor.predict([item.architecture for item in held]).mean
        return [(float(mean), item.measurement.median) for mean, item in zip(predicted, held, strict=True)]


def tables_by_metric(paths: Sequence[Path], targets: Mapping[str, Target]) -> dict[str, str]:
    """Which of some tables is of which of the targets of a run, given by metric.

    Raises FileError for a table of another target and for two of the same, and what `LatencyTable.load` raises.
    """
    found: dict[str, str] = {}
    for path in paths:
        own = LatencyTable.load(path).target
        metric = next((name for name, target in targets.items() if target == own), None)
        if metric is None:
            raise FileError(
                f"latency table {path} is of target {own}, not {' or '.join(map(str, targets.values()))}; name another file"
            )
        if metric in found:
            raise FileError(f"{found[metric]} and {path} are both tables of {own}; name one of them")
        found[metric] = str(path)
    return found
