"""The targets of a run: for each its latency table, the predictor fitted to it, and what was measured on it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nas.errors import FileError, MeasurementError
from nas.predictors.assessment import Assessment
from nas.predictors.energy import Energy, energy_seconds
from nas.predictors.energy_predictor import EnergyPredictor, require_energies
from nas.predictors.energy_profile import require_same_meter
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_table import HELD_OUT, LatencyTable
from nas.predictors.meter import Meter, meter_of
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, Speed
from nas.results.feasibility import require_table
from nas.results.metrics import ENERGY, LATENCY
from nas.results.verification import ENERGY_ROUNDS, Verdict
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace

CONFIDENCE = 0.95
COUNTS = 2
"""How often a search counts at least: the candidate with inherited weights, then the winner."""


class RunTarget:
    """One target of a run. `metric` is what its latency is called, `limit` its budget in seconds.

    `path` is where the run keeps its table, `given` the file that was given instead of profiling. `energy` is what its energy
    is called where the run asks for it (else None), `energy_limit` the budget in joules.
    """

    def __init__(
        self,
        metric: str,
        target: Target,
        path: Path,
        limit: float | None,
        given: str | None,
        energy: str | None = None,
        energy_limit: float | None = None,
    ) -> None:
        self.metric, self.target, self.path, self.limit = metric, target, path, limit
        self.given = None if given is None else Path(given)
        self.energy, self.energy_limit = energy, energy_limit
        self.predictor: LatencyPredictor
        self.energy_predictor: EnergyPredictor | None = None
        self.meter: Meter | None = None
        self.uncounted = ""

    def require_meter(self) -> None:
        """Find what counts the energy here, if that is asked for; `uncounted` says why there is nothing.

        Raises MeasurementError where nothing does and no table tells of energies, FileError for energies of another meter.
        """
        if self.energy is None:
            return
        known = self.path if self.path.exists() else self.given
        try:
            self.meter = meter_of(self.target)
        except MeasurementError as error:
            self.uncounted = str(error)
            if known is None:
                raise
            require_energies(LatencyTable.load(known, self.target))
        else:
            if known is not None:
                require_same_meter(LatencyTable.load(known, self.target), self.meter, known)

    def require_given(self, num_classes: int, in_channels: int, space: SearchSpace) -> list[str]:
        """What to say of the table that was given and is not taken over yet.

        Raises FileError where it cannot be used, MeasurementError where it lacks energies that are asked for.
        """
        if self.given is None or self.path.exists():
            return []
        told = require_table(self.given, self.target, num_classes, in_channels, space)
        if self.energy is not None:
            require_energies(LatencyTable.load(self.given, self.target))
        return told

    def take_given(self) -> bool:
        """Take over the table that was given, if there is one."""
        if self.given is not None and not self.path.exists():
            LatencyTable.load(self.given, self.target).save(self.path)
        return self.given is not None

    def known(self) -> LatencyTable | None:
        """The table as far as it is measured."""
        return LatencyTable.load(self.path, self.target) if self.path.exists() else None

    @property
    def given_speed(self) -> Speed | None:
        """What `speed` will be, where a table is given."""
        return None if self.given is None else LatencyTable.load(self.given, self.target).speed

    def load(self, verdicts: Sequence[Verdict]) -> None:
        """Fit the predictors to the table and to the networks that were measured over a budget so far."""
        self.predictor = LatencyPredictor.fit(LatencyTable.load(self.path, self.target))
        if self.energy is not None:
            self.energy_predictor = EnergyPredictor.fit(self.predictor)
        self._learn([verdict for verdict in self.of(verdicts) if not verdict.accepted])

    def _learn(self, rejected: Sequence[Verdict]) -> None:
        """Correct the predictors by networks that were measured over a budget."""
        if not rejected:
            return
        self.predictor.correct([item.architecture for item in rejected], [item.measurement for item in rejected])
        for item in rejected:
            if item.energy is not None:
                self.predictor.table.add_energy(item.architecture, item.energy)
        if self.energy is not None:
            self.energy_predictor = EnergyPredictor.fit(self.predictor)

    def of(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts on this target."""
        return [verdict for verdict in verdicts if verdict.measurement.target == str(self.target)]

    def describe(self, architecture: Architecture) -> dict[str, float]:
        """The predicted latency (s), where it is asked for the energy (J), and their upper bounds."""
        predictors: dict[str, LatencyPredictor | EnergyPredictor] = {self.metric: self.predictor}
        if self.energy is not None and self.energy_predictor is not None:
            predictors[self.energy] = self.energy_predictor
        # Sums of floats differ in their last bits with where the memory lies; seven digits are the same in every process.
        found = {}
        for name, predictor in predictors.items():
            found[name] = float(f"{predictor.predict([architecture]).mean[0]:.7g}")
            found[f"{name}_upper"] = float(f"{predictor.upper([architecture], CONFIDENCE)[0]:.7g}")
        return found

    def judge(self, architecture: Architecture, found: Measurement, *, final: bool, energy: Energy | None = None) -> Verdict:
        """The verdict on a measurement at the speed of the table; the predictors learn from one over a budget."""
        predicted = float(self.predictor.predict([architecture]).mean[0])
        verdict = Verdict(architecture, predicted, found, False, final, energy)
        verdict = replace(verdict, accepted=all(used <= limit for _, limit, used in self.spent(verdict)))
        self._learn([] if verdict.accepted else [verdict])
        return verdict

    def spent(self, verdict: Verdict) -> list[tuple[str, float, float]]:
        """For each budget on this target: latency or energy, the limit, and the upper end of what was measured."""
        found = [] if self.limit is None else [(LATENCY, self.limit, verdict.measurement.high)]
        if self.energy_limit is not None and verdict.energy is not None:
            found.append((ENERGY, self.energy_limit, verdict.energy.high))
        return found

    @property
    def speed(self) -> Speed | None:
        """The speed of the machine that the table's times are told at."""
        return self.predictor.table.speed

    def counting_seconds(self) -> float:
        """About how long counting a candidate and the winner takes; nothing where nothing is counted."""
        if self.meter is None:
            return 0.0
        runs = [item.measurement.median for item in self.predictor.table.networks.values()]
        return COUNTS * energy_seconds(self.meter, statistics.median(runs), ENERGY_ROUNDS)

    def assessment(self) -> Assessment | None:
        """How well the held-out networks are predicted; None without any."""
        held = list(self.predictor.table.of_role(HELD_OUT))
        if not held:
            return None
        return self.predictor.assess([item.architecture for item in held], self.predictor.table.latency(held).tolist())

    def energy_assessment(self) -> Assessment | None:
        """How well the energy of the held-out networks is predicted; None without any, or where energy is not asked for."""
        return None if self.energy_predictor is None else self.energy_predictor.assessment()

    def held_out(self) -> list[tuple[float, float]]:
        """Predicted and measured seconds of the held-out networks."""
        held = list(self.predictor.table.of_role(HELD_OUT))
        if not held:
            return []
        predicted = self.predictor.predict([item.architecture for item in held]).mean
        return list(zip(predicted.tolist(), self.predictor.table.latency(held).tolist(), strict=True))


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
