"""From evaluated candidates to the winner: measure the most promising as exported, train the first that holds, ship it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.errors import DivergedError, InfeasibleError
from nas.predictors.energy import Energy
from nas.predictors.timings import SLOWED, Measurement
from nas.progress import Step
from nas.quantities import format_time
from nas.results.export import DEFAULT_FORMATS, Exported, export
from nas.results.plain_process import plain_process_note
from nas.results.quantised import Int8Accuracy, calibration_images, int8_accuracy
from nas.results.targets import RunTarget
from nas.results.training_device import moved
from nas.results.verification import count_exported, delivered, exported, measure_exported, write_verdicts
from nas.search.types import Trial, best, format_metric
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.supernet.calibration import calibrate, score
from nas.supernet.finetune import finetune

if TYPE_CHECKING:
    from nas.results.pipeline import SearchRun

MEASURED_A_ROUND = 8


@dataclass(frozen=True)
class Winner:
    """The trial that won, its trained network, its last measurements by metric, its accuracy on validation and test images.

    `int8` is the accuracy of the int8 file where a target is one, `energies` what was counted of it, by metric, and `notes`
    what else there is to know of a latency.
    """

    trial: Trial
    network: Backbone
    measurements: Mapping[str, Measurement]
    validation: float
    test: float
    int8: Int8Accuracy | None = None
    energies: Mapping[str, Energy] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Selection:
    """One round of verification of a run; what it measures stays in the run's folder and teaches its predictor."""

    def __init__(self, run: SearchRun, step: Step) -> None:
        self.run, self.step = run, step

    def winner(self, attempts: int) -> Winner | None:
        """The best candidate that is measured under the budget on every target, trained and exported; None where none holds.

        `attempts` is how many candidates may be measured, those of earlier rounds included.
        """
        while True:
            trial = self.most_promising()
            measured = len({verdict.architecture.digest for verdict in self.run.verdicts if not verdict.final})
            if trial is None:
                return None
            if not self._accepted(trial):
                if measured >= attempts:
                    return None
                self.step(measured, attempts, f"measuring {trial.architecture.digest} as exported")
                if not self._measure(trial):
                    continue
            found = self._finish(trial)
            if found is not None:
                return found

    def most_promising(self) -> Trial | None:
        """The best trial that the predictor, as it is now, holds for feasible and that was not measured over the budget."""
        rejected = {verdict.architecture.digest for verdict in self.run.verdicts if not verdict.accepted}
        left = [trial for trial in self.run.trials if trial.full and trial.architecture.digest not in rejected]
        accepted = [trial for trial in left if self._accepted(trial)]
        if accepted:
            return accepted[0]
        problem = self.run.problem
        fresh = [replace(trial, metrics={**trial.metrics, **problem.cheap(trial.architecture)}) for trial in left]
        return best(fresh, self.run.budgets)

    def _accepted(self, trial: Trial) -> bool:
        """Whether a candidate was measured under the budget on every target."""
        return all(self._known(trial, one) for one in self.run.targets.values())

    def _known(self, trial: Trial, target: RunTarget) -> bool:
        verdicts = target.of(self.run.verdicts)
        return any(verdict.architecture.digest == trial.architecture.digest and verdict.accepted for verdict in verdicts)

    def _measure(self, trial: Trial) -> bool:
        """Measure a candidate with its inherited weights on one target after the other, until it is too slow on one."""
        run, (classes, channels) = self.run, self.run.outputs
        network = run.supernet.extract(trial.architecture).eval()
        calibrate(network, run.data, trial.architecture.resolution)
        for one in run.targets.values():
            if not self._known(trial, one):
                with exported(network, one.target, classes, channels) as folder:
                    found = self._measured(one, folder, trial.architecture.resolution)
                if not self._record(one, trial.architecture, *found, final=False):
                    return False
        return True

    def _measured(self, one: RunTarget, folder: Path, side: int) -> tuple[Measurement, Energy | None]:
        """The latency of an exported network, and its energy where that is asked for and can be counted here."""
        channels, accept_noise = self.run.outputs[1], self.run.config.accept_noise
        found = measure_exported(folder, one.target, side, channels, speed=one.speed, accept_noise=accept_noise)
        return found, None if one.meter is None else count_exported(folder, one.target, one.meter, side, channels)

    def _record(
        self, one: RunTarget, architecture: Architecture, found: Measurement, energy: Energy | None, *, final: bool
    ) -> bool:
        """Keep a measurement, and tell whether it is under the budgets."""
        verdict = one.judge(architecture, found, final=final, energy=energy)
        if final and found.slowed > SLOWED:
            taken = found.median * found.slowed**found.felt
            self.run.reporter.note(
                f"{one.target} runs {found.slowed:.2f} times slower now than in its profile: the "
                f"{format_time(found.median)} told, at the profile's speed, were {format_time(taken)}"
            )
        self.run.verdicts.append(verdict)
        write_verdicts(self.run.folder.verification, self.run.verdicts)
        return verdict.accepted

    def _finish(self, trial: Trial) -> Winner | None:
        """Fine-tune, export and measure the winner; None where the final measurement is over the budget."""
        run, architecture = self.run, trial.architecture
        network, validation = self._trained(architecture)
        self.step(1, 2, "exporting and measuring the winner")
        shutil.rmtree(run.folder.winner_path, ignore_errors=True)
        recipe = {
            "data": run.config.data,
            "supernet": vars(run.config.training),
            "fine_tuning": vars(run.config.finetuning),
            "versions": dict(run.config.versions),
        }
        shipped = self._export(network, recipe)
        measurements = self._measure_exported(architecture)
        if measurements is not None:
            test = score(network, run.data, run.data.test, architecture.resolution).accuracy
            int8 = self._int8(shipped, architecture.resolution)
            energies, notes = counted(run, architecture), self._notes(architecture)
            return Winner(trial, network, measurements, validation, test, int8, energies, notes)
        shutil.rmtree(run.folder.winner_path, ignore_errors=True)
        return None

    def _export(self, network: Backbone, recipe: Mapping[str, object]) -> Exported:
        """Write the winner in all formats, and in int8 where a target runs that."""
        run, (classes, channels) = self.run, self.run.outputs
        quantised = any(delivered(one.target) == "int8" for one in run.targets.values())
        return export(
            network,
            run.folder.winner_path,
            num_classes=classes,
            in_channels=channels,
            recipe=recipe,
            formats=(*DEFAULT_FORMATS, "int8") if quantised else DEFAULT_FORMATS,
            calibration=calibration_images(run.data, network.architecture.resolution) if quantised else None,
        )

    def _int8(self, shipped: Exported, side: int) -> Int8Accuracy | None:
        """The accuracy of the int8 file, if there is one."""
        if "int8" not in shipped.files:
            return None
        return int8_accuracy(shipped.directory, self.run.data, side, any_batch=shipped.dynamic_batch["onnx"])

    def _measure_exported(self, architecture: Architecture) -> dict[str, Measurement] | None:
        """The exported winner on every target; None as soon as it is over a budget."""
        found = {}
        for metric, one in self.run.targets.items():
            found[metric], energy = self._measured(one, self.run.folder.winner_path, architecture.resolution)
            if not self._record(one, architecture, found[metric], energy, final=True):
                return None
        return found

    def _notes(self, architecture: Architecture) -> tuple[str, ...]:
        """Where the exported winner is slower in a program of its own."""
        folder, outputs = self.run.folder.winner_path, self.run.outputs
        slower = {
            one.target: plain_process_note(folder, one.target, architecture, *outputs) for one in self.run.targets.values()
        }
        return tuple(f"{target}: {note}" for target, note in slower.items() if note is not None)

    def _trained(self, architecture: Architecture) -> tuple[Backbone, float]:
        """The network with inherited or with fine-tuned weights, whichever does better on validation images.

        Where fine-tuning diverges, nothing that the search found is lost: the winner keeps its inherited weights.
        """
        run, side = self.run, architecture.resolution
        inherited = run.supernet.extract(architecture).eval()
        calibrate(inherited, run.data, side)
        tuned, recipe = copy.deepcopy(inherited), run.config.finetuning
        checkpoint = run.folder.path / "winner-training" / f"{architecture.digest}.safetensors"
        identity = f"{architecture.digest}:{recipe}"
        networks = [tuned, inherited]
        try:
            with moved(tuned, run.config.device):
                finetune(tuned, run.data, recipe, side, checkpoint, identity, self.step, run.reporter.note)
        except DivergedError as error:
            run.reporter.note(f"{architecture.digest} keeps its inherited weights: {error}")
            networks = [inherited]
        scores = [score(network, run.data, run.data.validation, side).accuracy for network in networks]
        return networks[scores.index(max(scores))], max(scores)


def nothing_verified(run: SearchRun) -> InfeasibleError:
    """The error of a run in which no network was measured under the budgets: the closest one, and by how much."""
    over = [(verdict, one) for one in run.targets.values() for verdict in one.of(run.verdicts) if not verdict.accepted]
    if not over:
        return InfeasibleError(f"no candidate met the budgets in {len(run.trials)} evaluations; raise --evaluations")
    spent = [(max(one.spent(verdict), key=lambda item: item[2] / item[1]), verdict, one) for verdict, one in over]
    (kind, limit, took), closest, where = min(spent, key=lambda item: item[0][2] / item[0][1])
    return InfeasibleError(
        f"no exported network was measured under {format_metric(kind, limit)} on {where.target}: the closest, "
        f"{closest.architecture.digest}, took up to {format_metric(kind, took)} ({took / limit - 1:+.0%}); raise "
        f"--budget-{kind} or --evaluations",
        closest.architecture,
    )


def counted(run: SearchRun, architecture: Architecture) -> dict[str, Energy]:
    """The energies of the winner as they were counted last, by metric."""
    found = {}
    for one in run.targets.values():
        for verdict in one.of(run.verdicts):
            if verdict.final and verdict.architecture == architecture and verdict.energy is not None and one.energy is not None:
                found[one.energy] = verdict.energy
    return found
