"""`Ranking`: the agreement of a trained supernet with training alone, next to what parameters, MACs and proxies reach."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nas.errors import NasError, UsageError
from nas.files import sole_writer, write_json
from nas.plugins import lookup
from nas.progress import Reporter
from nas.results.pipeline import SearchRun
from nas.results.ranking.agreement import LEAST, Agreement, Bias, Lead, agreement, biases, family_of, lead
from nas.results.ranking.kept import KeptScores
from nas.results.ranking.outcomes import TrainedProbe, ceiling
from nas.results.ranking.probes import most_similar, probes
from nas.results.ranking.report import write_ranking_report
from nas.results.ranking.scores import (
    ACCURACY,
    COUNTS,
    LOSS,
    LOST,
    SCORES,
    baseline_scores,
    higher_is_better,
    inherited_scores,
)
from nas.results.ranking.trainings import ProbeTrainings
from nas.results.run import Run
from nas.results.supernet_run import require_epochs
from nas.results.training_device import require_here
from nas.search_spaces.architecture import Architecture
from nas.supernet.adaptation import RATE, Adaptation
from nas.supernet.augmentation import Augmentation
from nas.supernet.finetune import FinetuneRecipe

SUPERNET = "supernet"


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """How many probes, how each is trained, with how many seeds, and where: `ray` as in a search, `workers` at once, or a
    `device` of this machine.

    The supernet ranks them by `score`, their accuracy or loss on validation images, with weights that were trained alone for
    `adapt` steps at a peak rate of `adapt_rate` first, from the share `adapt_keep` of them (the rest are fresh).
    `probes_of` is another run on the same data, in whose folder the trained probes are kept instead of in this one's.
    """

    recipe: FinetuneRecipe
    probes: int = 24
    seeds: int = 1
    seed: int = 0
    ray: str | None = None
    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    probes_of: Path | None = None
    adapt: int = 0
    adapt_rate: float = RATE
    adapt_keep: float = 1.0
    score: str = ACCURACY

    def __post_init__(self) -> None:
        """Raises UnknownNameError for an unknown score, UsageError for an adaptation that cannot be."""
        lookup("score", self.score, dict.fromkeys(SCORES))
        Adaptation(steps=self.adapt, learning_rate=self.adapt_rate, keep=self.adapt_keep)


@dataclass(frozen=True)
class RankingOutcome:
    """What a ranking found. `agreements` are by score, the supernet's first; `similar` the same on the quarter of the probes
    with the most similar MACs, and `lead` how far the supernet is ahead of the best other score there. `rows` has one row a
    probe. The supernet ranked by `score`, after an adaptation of `adapt` steps from `adapt_keep` of its weights; the
    agreement of its other score is told too. `ceiling` is how far training alone agrees with itself where probes were trained
    with several seeds.
    """

    agreements: Mapping[str, Agreement]
    similar: Mapping[str, Agreement]
    biases: Sequence[Bias]
    family_biases: Sequence[Bias]
    rows: Sequence[Mapping[str, Any]]
    span: float
    lead: Lead
    score: str = ACCURACY
    adapt: int = 0
    ceiling: Agreement | None = None
    adapt_keep: float = 1.0

    @property
    def how(self) -> str:
        """What the supernet ranked by, for people."""
        share = "" if self.adapt_keep == 1 else f" from {self.adapt_keep:.0%} of the weights"
        return f"{self.score} after {self.adapt} steps of training alone{share}" if self.adapt else self.score

    def to_mapping(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "tau": self.agreements[SUPERNET].tau,
            "rho": self.agreements[SUPERNET].rho,
            "tau_interval": [self.agreements[SUPERNET].tau_low, self.agreements[SUPERNET].tau_high],
            "rho_interval": [self.agreements[SUPERNET].rho_low, self.agreements[SUPERNET].rho_high],
            "score": self.score,
            "adapt": self.adapt,
            "adapt_keep": self.adapt_keep,
            "ceiling": None if self.ceiling is None else self.ceiling.to_mapping(),
            "macs_span": self.span,
            "agreements": {name: found.to_mapping() for name, found in self.agreements.items()},
            "lead": self.lead.to_mapping(),
            "similar_macs": {name: found.to_mapping() for name, found in self.similar.items()},
            "biases": [bias.to_mapping() for bias in self.biases],
            "family_biases": [bias.to_mapping() for bias in self.family_biases],
            "probes": [dict(row) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """A table for the terminal."""
        found = [f"{'score':<17} {'tau':>6} {'95 % interval':>17} {'rho':>7}   similar MACs: tau"]
        for name, one in self.agreements.items():
            alike = self.similar[name]
            interval = f"[{one.tau_low:.2f}, {one.tau_high:.2f}]"
            found.append(f"{name:<17} {one.tau:>6.2f} {interval:>17} {one.rho:>7.2f}   {alike.tau:.2f} of {alike.n}")
        found.append(f"supernet, by {self.how}: tau among similar MACs {self.lead}")
        if self.ceiling is not None:
            most, low, high = self.ceiling.tau, self.ceiling.tau_low, self.ceiling.tau_high
            found.append(f"training alone agrees with itself, with other seeds, by tau {most:.2f} [{low:.2f}, {high:.2f}]")
        for what, listed in (("families", self.family_biases), ("operators", self.biases)):
            certain = [f"{bias.name} {bias.shift:+.2f}" for bias in listed if bias.low > 0 or bias.high < 0]
            found.append(f"{what} favoured (+) or punished (-): {', '.join(certain) or 'none beyond chance'}")
        return found


class Ranking:
    """A ranking of the trained supernet in a run folder; its files are in `ranking/` there."""

    def __init__(self, run: SearchRun, options: RankOptions, reporter: Reporter) -> None:
        self.run_of, self.options, self.reporter = run, options, reporter
        self.folder = run.folder.path / "ranking"

    def run(self) -> RankingOutcome:
        """Train what is not trained yet, and compare.

        Raises FileError where the supernet is not trained or damaged, or another process ranks this run or trains its probes,
        UsageError where the run's data have changed, all before any probe is trained, and NasError where too few probes train.
        """
        with sole_writer(self.folder):
            return self._run()

    def _run(self) -> RankingOutcome:
        run, options = self.run_of, self.options
        require_here(options.device, elsewhere=options.ray is not None)
        require_epochs(run.folder, run.config.training.epochs)
        run.require_same_data()
        self._require_same_images()
        adaptation = Adaptation.of(run.config.training, options.adapt, options.adapt_rate, options.adapt_keep)
        inherited = inherited_scores(run, adaptation, self.folder)
        Augmentation(options.recipe.augment, run.data)
        drawn = probes(run.space, options.probes, options.seed)
        if len(drawn) < LEAST:
            raise UsageError(
                f"space {run.space.name!r} gave {len(drawn)} networks, a ranking needs {LEAST}: take a larger space"
            )
        base = self.folder if options.probes_of is None else options.probes_of / "ranking"
        train = ProbeTrainings(run.data, options, base / "probes", self.reporter)
        found = [each for each in train(drawn) if each.accuracies]
        if len(found) < len(drawn):
            self.reporter.note(f"{len(drawn) - len(found)} of {len(drawn)} probes did not train and are left out")
        if len(found) < LEAST:
            raise NasError(
                f"a ranking needs {LEAST} probes that train alone, and {len(found)} of {len(drawn)} did: lower --learning-rate "
                "(--batch where memory ran out) or raise --probes"
            )
        scores = self._scores([each.architecture for each in found], inherited)
        rows = [
            {
                "digest": each.architecture.digest,
                "architecture": each.architecture.to_json(),
                "accuracy": each.truth,
                "accuracies": list(each.accuracies.values()),
                **{name: values[index] for name, values in scores.items()},
            }
            for index, each in enumerate(found)
        ]
        outcome = _compared(found, scores, rows, options)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "ranking.json", {**outcome.to_mapping(), "options": _plain(options)})
        write_ranking_report(
            self.folder / "ranking.html", outcome, run.space.name, run.config.data, run.config.training.strategy
        )
        return outcome

    def _require_same_images(self) -> None:
        """Raise UsageError where the run whose probes are to be taken has other images: all would be trained anew there."""
        of = self.options.probes_of
        theirs = "" if of is None else Run.open(of).config().data_fingerprint
        if theirs not in ("", self.run_of.data.fingerprint):
            raise UsageError(
                f"the probes of {of} were trained on other images than {self.run_of.folder.path}: leave --probes-of"
            )

    def _scores(self, found: list[Architecture], inherited: KeptScores) -> dict[str, list[float]]:
        """The supernet's two scores, the chosen one first, and those of the baselines, higher for the better."""
        options = self.options
        others = baseline_scores(self.run_of.data, options.seed, self.folder)
        named = {SUPERNET: options.score, **{f"{SUPERNET}:{score}": score for score in SCORES if score != options.score}}
        scores: dict[str, list[float]] = defaultdict(list)
        told, lost = f" after {options.adapt} steps" if options.adapt else "", 0
        with self.reporter.phase("Scores") as step:
            for index, each in enumerate(found):
                mine = inherited(each)
                for name, score in named.items():
                    scores[name].append(higher_is_better(mine, score))
                for name, value in sorted(others(each).items(), key=lambda item: item[0] not in COUNTS):
                    scores[name].append(value)
                lost += mine[LOSS] == LOST
                reached = "diverged" if mine[LOSS] == LOST else f"accuracy {mine[ACCURACY]:.1%}, loss {mine[LOSS]:.2f}"
                step(index + 1, len(found), f"{reached}{told}")
        if lost:
            self._tell_lost(lost, len(found))
        return dict(scores)

    def _tell_lost(self, lost: int, count: int) -> None:
        """Say how many networks diverged and come last. Raises NasError where fewer than a ranking needs did not."""
        steps = self.options.adapt
        what = f"{lost} of {count} networks have no finite loss with the supernet's weights"
        what += f" after {steps} steps" if steps else ""
        remedy = "lower --adapt-rate" if steps else "train the supernet with a lower learning rate"
        if count - lost < LEAST:
            raise NasError(f"{what}, and a ranking needs {LEAST} that have: {remedy}")
        self.reporter.note(f"{what} and are ranked last: {remedy} if they should not")


def _compared(
    found: Sequence[TrainedProbe],
    scores: Mapping[str, list[float]],
    rows: Sequence[Mapping[str, Any]],
    options: RankOptions,
) -> RankingOutcome:
    macs, truth = scores["macs"], [each.truth for each in found]
    architectures = [each.architecture for each in found]
    alike = most_similar(macs)
    right, few = [truth[i] for i in alike], {name: [values[i] for i in alike] for name, values in scores.items()}
    others = {name: values for name, values in few.items() if not name.startswith(SUPERNET)}
    return RankingOutcome(
        {name: agreement(values, truth) for name, values in scores.items()},
        {name: agreement(values, right) for name, values in few.items()},
        biases(architectures, scores[SUPERNET], truth),
        biases(architectures, scores[SUPERNET], truth, family_of),
        rows,
        max(macs) / max(1.0, min(macs)),
        lead(few[SUPERNET], others, right),
        options.score,
        options.adapt,
        ceiling(found),
        options.adapt_keep,
    )


def _plain(options: RankOptions) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(options), default=str))  # type: ignore[no-any-return]
