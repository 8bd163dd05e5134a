"""A whole search: feasibility, profile, supernet, search, verification, fine-tuning, export, report.

Every phase leaves what it found in the run folder and finds it there again, so a run that was killed at any moment goes on
where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas.errors import FileError, InfeasibleError, NasError
from nas.files import write_json
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import profile
from nas.predictors.profile_cost import profile_cost
from nas.predictors.remarks import remarks
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.progress import Reporter
from nas.results.config import SearchConfig
from nas.results.estimate import estimate
from nas.results.feasibility import fastest, require_latency, slowest, span_remark
from nas.results.metrics import LATENCY, memory, of_target
from nas.results.origins import Origins
from nas.results.quantised import Int8Accuracy
from nas.results.selection import MEASURED_A_ROUND, Selection, Winner, counted, nothing_verified
from nas.results.summary import Outcome, write_results
from nas.results.supernet_run import SupernetRun
from nas.results.targets import RunTarget
from nas.results.verification import read_verdicts
from nas.search.archive import Archive
from nas.search.cheap_scores import MEASURED
from nas.search.evaluation import SupernetEvaluator, sizes
from nas.search.executors.base import Executor
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.screening import Screening
from nas.search.seeded import Seeded
from nas.search.strategy import create, single
from nas.search.types import Budgets, Problem, Trial, format_metric
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.exclusion import without
from nas.search_spaces.space import SearchSpace
from nas.supernet.checkpoint import read_progress
from nas.supernet.training import TrainingHistory, trained_epochs

EXTRA_ROUNDS = 3


class SearchRun(SupernetRun):
    """One run in its folder. `run()` does, or finishes, all phases and returns the outcome."""

    def __init__(self, folder: Path, config: SearchConfig, reporter: Reporter | None = None) -> None:
        super().__init__(folder, config, reporter)
        self.budgets = Budgets(config.budgets)
        self.targets = {
            metric: RunTarget(
                metric,
                target,
                self.folder.table_of(metric, target),
                config.budgets.get(metric),
                config.latency_tables.get(metric),
                config.energies().get(metric),
                config.budgets.get(config.energies().get(metric, "")),
            )
            for metric, target in config.latencies().items()
        }
        self.origins = Origins(self)

    @property
    def target(self) -> Target:
        """The run's own target, which `latency` means."""
        return self.targets[LATENCY].target

    @property
    def predictor(self) -> LatencyPredictor:
        """The latency predictor of the run's own target."""
        return self.targets[LATENCY].predictor

    def run(self) -> Outcome:
        """Raises InfeasibleError where no architecture meets the budgets, and what the phases raise.

        A finished run is only reported again.
        """
        if self.folder.summary_path.exists():
            return self.report()
        try:
            with threads(self.config.threads):
                return self._run()
        except InfeasibleError as error:
            if error.closest is None:
                raise
            write_json(self.folder.closest_path, error.closest.to_mapping())
            raise InfeasibleError(f"{error}; the closest is in {self.folder.closest_path}") from error

    def _run(self) -> Outcome:
        self.start()
        self.require_feasible()
        self.profile()
        self.first_proposal()
        self.say_estimate()
        self.train()
        self.origins.join()
        winner = self.find_winner()
        with self.phase("Report"):
            return write_results(self, winner)

    def report(self) -> Outcome:
        """Write front, report and summary of a finished run again. Raises FileError where it is not finished."""
        summary = self.folder.summary()
        self.load_predictors()
        self.history = TrainingHistory(read_progress(self.folder.checkpoint)["history"])
        with self.archive() as archive:
            self.trials = archive.trials()
        digest = summary["digest"]
        trial = next((trial for trial in self.trials if trial.architecture.digest == digest), None)
        mine = [verdict for verdict in self.verdicts if verdict.final and verdict.architecture.digest == digest]
        last = {metric: one.of(mine)[-1].measurement for metric, one in self.targets.items() if one.of(mine)}
        if trial is None or len(last) < len(self.targets):
            raise FileError(f"run {self.folder.path} lacks the winner's trial or measurement: a file of it was removed")
        scores = summary["accuracy_validation"], summary["accuracy_test"]
        int8 = Int8Accuracy.from_mapping(summary.get("int8"))
        energies, notes = counted(self, trial.architecture), tuple(summary.get("notes", ()))
        return write_results(self, Winner(trial, self.folder.winner(), last, *scores, int8, energies, notes))

    def start(self, workers: int = 1) -> None:
        """See `SupernetRun.start`. Raises UnknownNameError for an unknown strategy, MeasurementError for a missing device."""
        for one in self.targets.values():
            one.target.require()
            one.require_meter()
            if one.uncounted:
                self.reporter.note(f"the winner's {one.energy} will be predicted and not counted: {one.uncounted}")
        create(self.config.strategy, self.problem_without_latency, self.config.seed)
        super().start(workers)
        self.say_ignored()

    def say_ignored(self) -> None:
        """Name what was asked for and changes nothing here."""
        config, images = self.config, len(self.data.validation)
        if len(config.objectives) > 1 and single(config.strategy):
            names = ", ".join(config.objectives)
            self.reporter.note(f"{config.strategy} improves one objective alone; --strategy auto follows all of {names}")
        spares_images = config.screen_by in MEASURED and not config.adapt
        if config.screen is not None and config.screen >= images and spares_images:
            self.reporter.note(f"--screen {config.screen} spares nothing: there are {images} validation images; take fewer")

    def require_files(self) -> None:
        """Raise FileError where a given latency table or the storage cannot be used."""
        for one in self.targets.values():
            for remark in one.require_given(*self.outputs, self.space):
                self.reporter.note(remark)
        self.origins.require()
        if self.config.storage is not None or self.folder.journal.exists():
            self.archive().close()

    def require_feasible(self) -> None:
        """Answer within seconds whether the budgets can be met at all."""
        if self.folder.latency_table.exists():
            return
        with self.phase("Feasibility") as step:
            classes, channels = self.outputs
            limits = {name: limit for name, limit in self.budgets.limits.items() if not of_target(name)}
            create("random", Problem(self.space, self.known, Budgets(limits)), self.config.seed).ask(0)
            told = []
            for one in self.targets.values():
                speed = one.given_speed
                found = fastest(self.space, one.target, channels, classes, step, speed)
                require_latency(found, one.limit, self.space, one.target)
                slow = slowest(self.space, one.target, channels, classes, step, speed)
                told.append(span_remark(found, slow, one.limit, self.space, one.target))
        for remark in told:
            self.reporter.note(remark)

    def profile(self) -> None:
        """Measure the targets, or take the tables of earlier profiles.

        Raises MeasurementError for a table of noise, unless noise is accepted.
        """
        for one in self.targets.values():
            if not one.take_given():
                self._profile(one)
        self.load_predictors()
        for one in self.targets.values():
            for text in remarks(one.predictor.table):
                self.reporter.note(text)
            if not self.config.accept_noise:
                one.predictor.table.require_quiet()
            found = one.assessment()
            if found is not None:
                where = "" if len(self.targets) == 1 else f" of {one.target}"
                self.reporter.note(
                    f"latency predictor{where} on {found.n} held-out networks: mean error {found.mape:.1%}, "
                    f"Spearman {found.spearman:.3f}"
                )
            energy = one.energy_assessment()
            if energy is not None:
                self.reporter.note(
                    f"energy predictor of {one.target} on {energy.n} held-out networks: mean error {energy.mape:.1%}, "
                    f"Spearman {energy.spearman:.3f}"
                )

    def _profile(self, one: RunTarget) -> None:
        config, (classes, channels) = self.config, self.outputs
        if one.meter is not None:
            self._say_counting(one)
        with self.phase("Latency profile") as step:
            profile(
                self.space, one.target, one.path, in_channels=channels, num_classes=classes, seed=config.seed,
                train=config.profile_networks, held_out=config.profile_held_out, seconds=config.profile_seconds,
                energy=one.meter is not None, progress=step,
            )  # fmt: skip

    def _say_counting(self, one: RunTarget) -> None:
        """Tell what a profile that counts energies costs: minutes, where the counter is updated seldom."""
        config = self.config
        cost = profile_cost(
            self.space, one.target, train=config.profile_networks, held_out=config.profile_held_out,
            seconds=config.profile_seconds, table=one.known(), meter=one.meter,
        )  # fmt: skip
        if cost.counted:
            self.reporter.note(f"the profile of {one.target} takes {cost}")

    def load_predictors(self) -> None:
        """Fit the predictors to the tables and to the networks that were measured over the budget so far."""
        self.verdicts = read_verdicts(self.folder.verification)
        for one in self.targets.values():
            one.load(self.verdicts)

    def first_proposal(self) -> None:
        """Raise InfeasibleError before any training where the strategy finds nothing under the budgets."""
        create("random", self.problem, self.config.seed).ask(0)

    def say_estimate(self) -> None:
        """Tell what the rest of the run will cost."""
        epochs = self.config.training.epochs - trained_epochs(self.folder.checkpoint)
        epochs = 0 if self.config.supernet is not None else epochs
        with self.archive() as archive:
            evaluations = max(0, self.config.evaluations - sum(not trial.origin for trial in archive.trials()))
        counting = sum(one.counting_seconds() for one in self.targets.values())
        told = estimate(self.config, self.supernet, self.data, 0.0, epochs, evaluations, counting)
        self.reporter.note(f"the rest takes {told}")

    @property
    def problem_without_latency(self) -> Problem:
        """The space alone, to check names before anything is measured."""
        return Problem(self.space, lambda architecture: dict.fromkeys(self.budgets.limits, 0.0), self.budgets)

    @property
    def problem(self) -> Problem:
        """The search problem as the predictors see it now."""
        return Problem(self.runnable_space, self.describe, self.budgets, self.config.objectives)

    @property
    def runnable_space(self) -> SearchSpace:
        """The space without the operators that a target refuses. Raises SpaceError where nothing is left."""
        refused = frozenset[str]().union(*(one.predictor.table.excluded for one in self.targets.values()))
        return without(self.space, refused)

    def describe(self, architecture: Architecture) -> Mapping[str, float]:
        """Predicted latencies (s) and their upper bounds; sizes where they have a budget or are an objective."""
        found: dict[str, float] = {}
        for one in self.targets.values():
            found |= one.describe(architecture)
        return {**found, **self.known(architecture)}

    def known(self, architecture: Architecture) -> Mapping[str, float]:
        """What is known of an architecture without measuring, where it has a budget or is an objective."""
        wanted = {*self.budgets.limits, *self.config.objectives}
        found: dict[str, float] = {}
        if {"params", "macs"} & wanted:
            found |= sizes(architecture, *self.outputs)
        if "memory" in wanted:
            found["memory"] = memory(architecture, self.target, *self.outputs)
        return found

    def archive(self) -> Archive:
        """The archive of record."""
        place = self.config.storage or self.folder.journal
        return Archive(place, self.space, self.config.objectives, self.budgets, self.config.identity())

    def executor(self) -> Executor:
        """Where candidates are evaluated."""
        config = self.config
        evaluator = SupernetEvaluator(
            self.supernet, self.data, config.threads, config.screen, config.screen_by, config.adaptation()
        )
        if self.config.ray is None:
            return LocalExecutor(evaluator)
        from nas.search.executors.ray import RayExecutor

        return RayExecutor(evaluator, self.config.ray, self.config.workers, num_cpus=self.config.threads)

    def find_winner(self) -> Winner:
        """Search and verify in turns, until an exported network is measured under the budgets.

        Raises InfeasibleError, naming the closest, where none is after the extra rounds.
        """
        for extra in range(EXTRA_ROUNDS + 1):
            self.search(self.config.evaluations + extra * max(1, self.config.evaluations // 5))
            with self.phase("Verification and export") as step:
                winner = Selection(self, step).winner(attempts=(extra + 1) * MEASURED_A_ROUND)
            if winner is not None:
                return winner
            self.reporter.note("no candidate was measured under the budget; the predictor has learned from it, searching on")
        raise nothing_verified(self)

    def search(self, evaluations: int) -> None:
        """Evaluate candidates up to a number of their own, those of earlier rounds included, taken over ones not."""
        problem = self.problem
        screening = None if self.config.screen is None else Screening(self.config.promote)
        with self.archive() as archive, self.phase("Search") as step, self.executor() as executor:

            def tell(done: int, total: int, found: Trial | None) -> None:
                step(done, total, "" if found is None else _words(found))

            taken = self.origins.taken
            strategy = Seeded(create(self.config.strategy, problem, self.config.seed), problem, self.origins.seeds, taken)
            run_search(
                problem, strategy, archive, executor, evaluations=taken + evaluations, progress=tell, screening=screening
            )
            self.trials = archive.trials()
        failed = [trial for trial in self.trials if trial.failed]
        if failed and len(failed) == len(self.trials):
            raise NasError(f"all {len(failed)} evaluations failed, the first by: {failed[0].error}")
        if failed:
            self.reporter.note(f"{len(failed)} of {len(self.trials)} evaluations failed, the first by: {failed[0].error}")


def _words(found: Trial) -> str:
    return f"best {found.metrics['accuracy']:.1%} at {format_metric(LATENCY, found.metrics[LATENCY])}"
