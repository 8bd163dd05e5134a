"""A whole search: feasibility, profile, supernet, search, verification, fine-tuning, export, report.

Every phase leaves what it found in the run folder and finds it there again, so a run that was killed at any moment goes on
where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from nas.errors import FileError, InfeasibleError, NasError, UsageError
from nas.files import copy_file, read_json, write_json
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import HELD_OUT, LatencyTable
from nas.predictors.remarks import remarks
from nas.predictors.target import Target
from nas.progress import Reporter, Silent, Step
from nas.quantities import format_duration, format_time
from nas.results.config import SearchConfig
from nas.results.estimate import estimate, training_seconds
from nas.results.feasibility import fastest, require_latency, require_table
from nas.results.quantised import Int8Accuracy
from nas.results.run import Run
from nas.results.selection import MEASURED_A_ROUND, Selection, Winner
from nas.results.summary import Outcome, write_results
from nas.results.verification import read_verdicts
from nas.search.archive import Archive
from nas.search.evaluation import SupernetEvaluator, sizes
from nas.search.executors.base import Executor
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.strategy import create
from nas.search.types import Budgets, Problem, Trial
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.exclusion import without
from nas.search_spaces.space import SearchSpace
from nas.supernet.checkpoint import read_progress
from nas.supernet.data import DataSplits, load_data
from nas.supernet.pretrained import pretrained, start_from
from nas.supernet.step import Teacher
from nas.supernet.supernet import Supernet
from nas.supernet.teachers import teacher
from nas.supernet.training import TrainingHistory, require_trainable, train, trained_epochs
from nas.supernet.workers import launched

EXTRA_ROUNDS = 3
CONFIDENCE = 0.95


class SearchRun:
    """One run in its folder. `run()` does, or finishes, all phases and returns the outcome."""

    def __init__(self, folder: Path, config: SearchConfig, reporter: Reporter | None = None) -> None:
        self.folder, self.config = Run(folder), config
        self.reporter: Reporter = reporter or Silent()
        self.space = config.search_space()
        self.target = Target.parse(config.target)
        self.budgets = Budgets(config.budgets)
        self.first = True

    def run(self) -> Outcome:
        """Raises InfeasibleError where no architecture meets the budgets, and what the phases raise.

        A finished run is only reported again.
        """
        if self.folder.summary_path.exists():
            return self.report()
        with _threads(self.config.threads):
            self.start()
            self.require_feasible()
            self.profile()
            self.first_proposal()
            self.say_estimate()
            self.train()
            winner = self.find_winner()
            with self.phase("Report"):
                return write_results(self, winner)

    def report(self) -> Outcome:
        """Write front, report and summary of a finished run again. Raises FileError where it is not finished."""
        summary = self.folder.summary()
        self.load_predictor()
        self.history = TrainingHistory(read_progress(self.folder.checkpoint)["history"])
        with self.archive() as archive:
            self.trials = archive.trials()
        digest = summary["digest"]
        trial = next((trial for trial in self.trials if trial.architecture.digest == digest), None)
        last = next((v for v in reversed(self.verdicts) if v.final and v.architecture.digest == digest), None)
        if trial is None or last is None:
            raise FileError(f"run {self.folder.path} lacks the winner's trial or measurement: a file of it was removed")
        scores = summary["accuracy_validation"], summary["accuracy_test"]
        int8 = Int8Accuracy.from_mapping(summary.get("int8"))
        return write_results(self, Winner(trial, self.folder.winner(), last.measurement, *scores, int8))

    @cached_property
    def data(self) -> DataSplits:
        """The images, read once."""
        config = self.config
        return load_data(config.data, max(self.space.resolutions), config.train_images, config.validation_images)

    @cached_property
    def supernet(self) -> Supernet:
        """The shared weights."""
        return Supernet(self.space, len(self.data.classes), self.data.in_channels, seed=self.config.seed)

    @cached_property
    def teacher(self) -> Teacher | None:
        """The network from outside that the supernet learns from, if there is one. Raises what `teachers.teacher` raises."""
        return teacher(self.config.training.teacher, self.data)

    @cached_property
    def pretrained(self) -> Backbone | None:
        """The published network that the supernet starts from, if there is one. Raises what `pretrained.pretrained` raises."""
        return pretrained(self.config.training.init)

    @property
    def outputs(self) -> tuple[int, int]:
        """Classes and input channels."""
        return len(self.data.classes), self.data.in_channels

    def start(self, workers: int = 1) -> None:
        """Read the data, make the folder, and write down what was asked for; `workers` will share each training batch."""
        self.target.require()
        create(self.config.strategy, self.problem_without_latency, self.config.seed)
        require_trainable(self.config.training, self.data, workers)
        if self.config.supernet is not None and not self.folder.checkpoint.exists():
            other = Run.open(self.config.supernet)
            _require_epochs(other, other.config().training.epochs)
        elif trained_epochs(self.folder.checkpoint) < self.config.training.epochs:
            _ = self.teacher
            if not self.folder.checkpoint.exists():
                self.require_pretrained()
        fingerprint = self.data.fingerprint
        if self.config.data_fingerprint and self.config.data_fingerprint != fingerprint:
            raise UsageError(f"data {self.config.data!r} has changed since the run began: start a new run with another --out")
        given, journal = self.config.latency_table, self.folder.journal
        if given is not None and not self.folder.latency_table.exists():
            require_table(Path(given), self.target, *self.outputs)
        if self.config.storage is not None or journal.exists():
            self.archive().close()
        self.reporter.note(f"run folder: {self.folder.path}")
        self.config = replace(self.config, data_fingerprint=fingerprint)
        self.config.save(self.folder.config_path)

    def require_pretrained(self) -> None:
        """Give the supernet its first weights, if it starts from any, and tell so. Raises what `start_from` raises."""
        if self.pretrained is not None:
            fresh = start_from(self.supernet, self.pretrained)
            head = f"; the classifier is new, for {len(self.data.classes)} classes" if fresh else ""
            self.reporter.note(f"the supernet starts from {self.config.training.init}{head}")

    def require_feasible(self) -> None:
        """Answer within seconds whether the budgets can be met at all."""
        if self.folder.latency_table.exists():
            return
        with self.phase("Feasibility") as step:
            classes, channels = self.outputs
            limits = {name: limit for name, limit in self.budgets.limits.items() if name != "latency"}
            small = Problem(self.space, lambda architecture: sizes(architecture, classes, channels), Budgets(limits))
            create("random", small, self.config.seed).ask(0)
            found = fastest(self.space, self.target, channels, classes, step)
            require_latency(found, self.budgets.limits.get("latency"), self.space, self.target)
        took = format_time(found.measurement.median)
        self.reporter.note(f"the fastest member of {self.space.name!r} found takes {took} on {self.target}")

    def profile(self) -> None:
        """Measure the target, or take the table of an earlier profile.

        Raises MeasurementError for a table of noise, unless noise is accepted.
        """
        given = self.config.latency_table
        if given is not None and not self.folder.latency_table.exists():
            LatencyTable.load(Path(given), self.target).save(self.folder.latency_table)
        if given is None:
            with self.phase("Latency profile") as step:
                self._profile(step)
        self.load_predictor()
        for text in remarks(self.predictor.table):
            self.reporter.note(text)
        if not self.config.accept_noise:
            self.predictor.table.require_quiet()
        held = list(self.predictor.table.of_role(HELD_OUT))
        if held:
            found = self.predictor.assess([item.architecture for item in held], [item.measurement.median for item in held])
            self.reporter.note(
                f"latency predictor on {found.n} held-out networks: mean error {found.mape:.1%}, Spearman {found.spearman:.3f}"
            )

    def load_predictor(self) -> None:
        """Fit the predictor to the table and to the networks that were measured over the budget so far."""
        self.predictor = LatencyPredictor.fit(LatencyTable.load(self.folder.latency_table, self.target))
        self.verdicts = read_verdicts(self.folder.verification)
        rejected = [verdict for verdict in self.verdicts if not verdict.accepted]
        if rejected:
            self.predictor.correct([item.architecture for item in rejected], [item.measurement for item in rejected])

    def _profile(self, step: Step) -> None:
        config, (classes, channels) = self.config, self.outputs
        profile(
            self.space, self.target, self.folder.latency_table, in_channels=channels, num_classes=classes, seed=config.seed,
            train=config.profile_networks, held_out=config.profile_held_out, seconds=config.profile_seconds, progress=step,
        )  # fmt: skip

    def first_proposal(self) -> None:
        """Raise InfeasibleError before any training where the strategy finds nothing under the budgets."""
        create("random", self.problem, self.config.seed).ask(0)

    def say_estimate(self) -> None:
        """Tell what the rest of the run will cost."""
        epochs = self.config.training.epochs - trained_epochs(self.folder.checkpoint)
        with self.archive() as archive:
            evaluations = max(0, self.config.evaluations - len(archive))
        self.reporter.note(f"the rest takes {estimate(self.config, self.supernet, self.data, 0.0, epochs, evaluations)}")

    def train(self) -> None:
        """Train the supernet, or go on with its checkpoint; by all workers that `torchrun` or Ray Train has started."""
        config, left = self.config, self.config.training.epochs - trained_epochs(self.folder.checkpoint)
        if config.supernet is not None and not self.folder.checkpoint.exists():
            copy_file(Run.open(config.supernet).checkpoint, self.folder.checkpoint)
        with self.phase("Supernet") as step, launched() as workers:
            self.history = train(
                self.supernet, self.data, config.training, self.folder.checkpoint, step, config.threads,
                teacher=self.teacher if left and config.supernet is None else None, workers=workers,
                pretrained=None if self.folder.checkpoint.exists() else self.pretrained,
            )  # fmt: skip
        for row in self.history.rollbacks:
            self.reporter.note(f"the loss diverged at step {row['step']:.0f}: went back to step {row['to']:.0f}")
        self.supernet.eval()

    def train_supernet(self) -> TrainingHistory:
        """The supernet's training alone, as `nas train` does it: one worker, those of `torchrun`, or of Ray Train.

        Under `torchrun` every worker calls this on the same folder. Raises what reading the data and training raise.
        """
        config = self.config
        with _threads(config.threads), launched() as workers:
            self.first = workers.rank == 0
            if self.first:
                self.start(max(config.workers, workers.size))
                left = config.training.epochs - trained_epochs(self.folder.checkpoint)
                if left:
                    seconds = training_seconds(config, self.supernet, self.data, left) / max(config.workers, workers.size)
                    self.reporter.note(f"{left} epochs take about {format_duration(seconds)}")
            workers.wait()
            if config.ray is not None and workers.size == 1:
                from nas.results.ray_training import train_with_ray

                train_with_ray(self.folder.path, config.ray, config.workers, config.threads)
            self.train()
        return self.history

    def require_trained(self) -> None:
        """Read the supernet's weights. Raises FileError where its training is not finished."""
        _require_epochs(self.folder, self.config.training.epochs)
        self.train()

    @cached_property
    def problem_without_latency(self) -> Problem:
        """The space alone, to check names before anything is measured."""
        return Problem(self.space, lambda architecture: dict.fromkeys(self.budgets.limits, 0.0), self.budgets)

    @property
    def problem(self) -> Problem:
        """The search problem as the predictor sees it now."""
        return Problem(self.runnable_space, self.describe, self.budgets, self.config.objectives)

    @property
    def runnable_space(self) -> SearchSpace:
        """The space without the operators that the target refuses. Raises SpaceError where nothing is left."""
        return without(self.space, self.predictor.table.excluded)

    def describe(self, architecture: Architecture) -> Mapping[str, float]:
        """Predicted latency (s) and its upper bound; parameters and MACs where they have a budget or are an objective."""
        # Sums of floats differ in their last bits with where the memory lies; nine digits are the same in every process.
        found = {
            "latency": float(f"{self.predictor.predict([architecture]).mean[0]:.9g}"),
            "latency_upper": float(f"{self.predictor.upper([architecture], CONFIDENCE)[0]:.9g}"),
        }
        if {"params", "macs"} & {*self.budgets.limits, *self.config.objectives}:
            found |= sizes(architecture, *self.outputs)
        return found

    def archive(self) -> Archive:
        """The archive of record."""
        place = self.config.storage or self.folder.journal
        return Archive(place, self.space, self.config.objectives, self.budgets, self.config.identity())

    def executor(self) -> Executor:
        """Where candidates are evaluated."""
        evaluator = SupernetEvaluator(self.supernet, self.data, self.config.threads)
        if self.config.ray is None:
            return LocalExecutor(evaluator)
        from nas.search.executors.ray import RayExecutor

        return RayExecutor(evaluator, self.config.ray, self.config.workers, num_cpus=self.config.threads)

    def find_winner(self) -> Winner:
        """Search and verify in turns, until an exported network is measured under the budget.

        Raises InfeasibleError, naming the closest, where none is after the extra rounds.
        """
        for extra in range(EXTRA_ROUNDS + 1):
            self.search(self.config.evaluations + extra * max(1, self.config.evaluations // 5))
            with self.phase("Verification and export") as step:
                winner = Selection(self, step).winner(attempts=(extra + 1) * MEASURED_A_ROUND)
            if winner is not None:
                return winner
            self.reporter.note("no candidate was measured under the budget; the predictor has learned from it, searching on")
        raise self._nothing_verified()

    def search(self, evaluations: int) -> None:
        """Evaluate candidates up to a number, those of earlier rounds included."""
        problem = self.problem
        with self.archive() as archive, self.phase("Search") as step, self.executor() as executor:

            def tell(done: int, total: int, found: Trial | None) -> None:
                words = (
                    "" if found is None else f"best {found.metrics['accuracy']:.1%} at {format_time(found.metrics['latency'])}"
                )
                step(done, total, words)

            strategy = create(self.config.strategy, problem, self.config.seed)
            run_search(problem, strategy, archive, executor, evaluations=evaluations, progress=tell)
            self.trials = archive.trials()
        failed = [trial for trial in self.trials if not trial.complete]
        if failed and len(failed) == len(self.trials):
            raise NasError(f"all {len(failed)} evaluations failed, the first by: {failed[0].error}")
        if failed:
            self.reporter.note(f"{len(failed)} of {len(self.trials)} evaluations failed, the first by: {failed[0].error}")

    def _nothing_verified(self) -> InfeasibleError:
        if not self.verdicts:
            return InfeasibleError(f"no candidate met the budgets in {len(self.trials)} evaluations; raise --evaluations")
        closest = min(self.verdicts, key=lambda verdict: verdict.measurement.high)
        limit, took = format_time(self.budgets.limits["latency"]), format_time(closest.measurement.high)
        return InfeasibleError(
            f"no exported network was measured under {limit} on {self.target}: the closest, {closest.architecture.digest}, "
            f"took up to {took}; raise --budget-latency or --evaluations"
        )

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Step]:
        """A phase with progress, its seconds added to `phases.json`."""
        began = time.perf_counter()
        try:
            with self.reporter.phase(title) as step:
                yield step
        finally:
            spent = read_json(self.folder.phases, "phase times") if self.folder.phases.exists() else {}
            spent[title] = spent.get(title, 0.0) + time.perf_counter() - began
            if self.first:
                write_json(self.folder.phases, spent)


def _require_epochs(folder: Run, wanted: int) -> None:
    """Raise FileError where the supernet of a run is not trained to the end."""
    done = trained_epochs(folder.checkpoint)
    if done < wanted:
        raise FileError(
            f"the supernet of {folder.path} has {done} of {wanted} epochs behind it: "
            f"`nas train --resume {folder.path}` trains it"
        )


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
