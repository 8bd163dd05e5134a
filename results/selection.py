"""From evaluated candidates to the winner: measure the most promising as exported, train the first that holds, ship it."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nas.predictors.timings import Measurement
from nas.progress import Step
from nas.results.export import DEFAULT_FORMATS, export
from nas.results.quantised import Int8Accuracy, calibration_images, int8_accuracy
from nas.results.verification import Verdict, delivered, measure_exported, measure_network, write_verdicts
from nas.search.types import Trial, best
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.supernet.calibration import calibrate, score
from nas.supernet.finetune import finetune

if TYPE_CHECKING:
    from nas.results.pipeline import SearchRun

MEASURED_A_ROUND = 8


@dataclass(frozen=True)
class Winner:
    """The trial that won, its trained network, its last measurement, and its accuracy on validation and test images.

    `int8` is the accuracy of the int8 file where the target is one.
    """

    trial: Trial
    network: Backbone
    measurement: Measurement
    validation: float
    test: float
    int8: Int8Accuracy | None = None


class Selection:
    """One round of verification of a run; what it measures stays in the run's folder and teaches its predictor."""

    def __init__(self, run: SearchRun, step: Step) -> None:
        self.run, self.step = run, step

    def winner(self, attempts: int) -> Winner | None:
        """The best candidate that is measured under the budget, trained and exported; None where none holds.

        `attempts` is how many candidates may be measured, those of earlier rounds included.
        """
        while True:
            trial = self.most_promising()
            measured = sum(not verdict.final for verdict in self.run.verdicts)
            if trial is None:
                return None
            if not self._accepted(trial):
                if measured >= attempts:
                    return None
                self.step(measured, attempts, f"measuring {trial.architecture.digest} as exported")
                if not self._measure(trial).accepted:
                    continue
            found = self._finish(trial)
            if found is not None:
                return found

    def most_promising(self) -> Trial | None:
        """The best trial that the predictor, as it is now, holds for feasible and that was not measured over the budget."""
        rejected = {verdict.architecture.digest for verdict in self.run.verdicts if not verdict.accepted}
        left = [trial for trial in self.run.trials if trial.complete and trial.architecture.digest not in rejected]
        accepted = [trial for trial in left if self._accepted(trial)]
        if accepted:
            return accepted[0]
        problem = self.run.problem
        fresh = [replace(trial, metrics={**trial.metrics, **problem.cheap(trial.architecture)}) for trial in left]
        return best(fresh, self.run.budgets)

    def _accepted(self, trial: Trial) -> bool:
        digest = trial.architecture.digest
        return any(verdict.architecture.digest == digest and verdict.accepted for verdict in self.run.verdicts)

    def _measure(self, trial: Trial) -> Verdict:
        """Measure a candidate with its inherited weights."""
        run, (classes, channels) = self.run, self.run.outputs
        network = run.supernet.extract(trial.architecture).eval()
        calibrate(network, run.data, trial.architecture.resolution)
        found = measure_network(network, run.target, classes, channels, accept_noise=run.config.accept_noise)
        return self._record(trial.architecture, found, final=False)

    def _record(self, architecture: Architecture, found: Measurement, *, final: bool) -> Verdict:
        """Keep a measurement; the predictor learns from one that it was wrong about."""
        run = self.run
        predicted = float(run.predictor.predict([architecture]).mean[0])
        limit = run.budgets.limits.get("latency")
        verdict = Verdict(architecture, predicted, found, limit is None or found.high <= limit, final)
        run.verdicts.append(verdict)
        write_verdicts(run.folder.verification, run.verdicts)
        if not verdict.accepted:
            run.predictor.correct([architecture], [found])
        return verdict

    def _finish(self, trial: Trial) -> Winner | None:
        """Fine-tune, export and measure the winner; None where the final measurement is over the budget."""
        run, architecture = self.run, trial.architecture
        network, validation = self._trained(architecture)
        self.step(1, 2, "exporting and measuring the winner")
        shutil.rmtree(run.folder.winner_path, ignore_errors=True)
        classes, channels = run.outputs
        recipe = {
            "data": run.config.data,
            "supernet": vars(run.config.training),
            "fine_tuning": vars(run.config.finetuning),
            "versions": dict(run.config.versions),
        }
        side, quantised = architecture.resolution, delivered(run.target) == "int8"
        exported = export(
            network,
            run.folder.winner_path,
            num_classes=classes,
            in_channels=channels,
            recipe=recipe,
            formats=(*DEFAULT_FORMATS, "int8") if quantised else DEFAULT_FORMATS,
            calibration=calibration_images(run.data, side) if quantised else None,
        )
        found = measure_exported(run.folder.winner_path, run.target, side, channels, accept_noise=run.config.accept_noise)
        if self._record(architecture, found, final=True).accepted:
            test = score(network, run.data, run.data.test, side).accuracy
            any_batch = exported.dynamic_batch["onnx"]
            int8 = int8_accuracy(run.folder.winner_path, run.data, side, any_batch=any_batch) if quantised else None
            return Winner(trial, network, found, validation, test, int8)
        shutil.rmtree(run.folder.winner_path, ignore_errors=True)
        return None

    def _trained(self, architecture: Architecture) -> tuple[Backbone, float]:
        """The network with inherited or with fine-tuned weights, whichever does better on validation images."""
        run, side = self.run, architecture.resolution
        inherited = run.supernet.extract(architecture).eval()
        calibrate(inherited, run.data, side)
        tuned, recipe = copy.deepcopy(inherited), run.config.finetuning
        checkpoint = run.folder.path / "winner-training" / f"{architecture.digest}.safetensors"
        finetune(tuned, run.data, recipe, side, checkpoint, f"{architecture.digest}:{recipe}", self.step)
        scores = [score(network, run.data, run.data.validation, side).accuracy for network in (tuned, inherited)]
        return (tuned, scores[0]) if scores[0] >= scores[1] else (inherited, scores[1])
