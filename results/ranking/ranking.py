"""`Ranking`: the agreement of a trained supernet with training alone, next to what parameters, MACs and proxies reach."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from nas.errors import UsageError
from nas.files import write_json
from nas.predictors.proxies import proxy_names, proxy_scores
from nas.progress import Reporter
from nas.results.pipeline import SearchRun
from nas.results.ranking.agreement import LEAST, Agreement, Bias, agreement, biases, family_of
from nas.results.ranking.probes import most_similar, probes
from nas.results.ranking.report import write_ranking_report
from nas.results.ranking.standalone import ProbeTrainer
from nas.search.evaluation import SupernetEvaluator, sizes
from nas.search.executors.local import LocalExecutor
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.supernet.augmentation import Augmentation
from nas.supernet.finetune import FinetuneRecipe

SUPERNET = "supernet"
_PROXY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class RankOptions:
    """How many probes, how each is trained, and where: `ray` as in a search, `workers` at once.

    `probes_of` is another run on the same data, in whose folder the trained probes are kept instead of in this one's.
    """

    recipe: FinetuneRecipe
    probes: int = 24
    seed: int = 0
    ray: str | None = None
    workers: int = 1
    threads: int = 1
    probes_of: Path | None = None


@dataclass(frozen=True)
class RankingOutcome:
    """What a ranking found. `agreements` are by score, the supernet's first; `similar` the same on the quarter of the probes
    with the most similar MACs. `rows` has one row a probe.
    """

    agreements: Mapping[str, Agreement]
    similar: Mapping[str, Agreement]
    biases: Sequence[Bias]
    family_biases: Sequence[Bias]
    rows: Sequence[Mapping[str, Any]]
    span: float

    def to_mapping(self) -> dict[str, Any]:
        """Fit for JSON."""
        return {
            "tau": self.agreements[SUPERNET].tau,
            "rho": self.agreements[SUPERNET].rho,
            "tau_interval": [self.agreements[SUPERNET].tau_low, self.agreements[SUPERNET].tau_high],
            "rho_interval": [self.agreements[SUPERNET].rho_low, self.agreements[SUPERNET].rho_high],
            "macs_span": self.span,
            "agreements": {name: found.to_mapping() for name, found in self.agreements.items()},
            "similar_macs": {name: found.to_mapping() for name, found in self.similar.items()},
            "biases": [bias.to_mapping() for bias in self.biases],
            "family_biases": [bias.to_mapping() for bias in self.family_biases],
            "probes": [dict(row) for row in self.rows],
        }

    def lines(self) -> list[str]:
        """A table for the terminal."""
        found = [f"{'score':<12} {'tau':>6} {'95 % interval':>17} {'rho':>7}   similar MACs: tau"]
        for name, one in self.agreements.items():
            alike = self.similar[name]
            interval = f"[{one.tau_low:.2f}, {one.tau_high:.2f}]"
            found.append(f"{name:<12} {one.tau:>6.2f} {interval:>17} {one.rho:>7.2f}   {alike.tau:.2f} of {alike.n}")
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
        """Train what is not trained yet, and compare. Raises FileError where the supernet is not trained."""
        run, options = self.run_of, self.options
        run.require_trained()
        Augmentation(options.recipe.augment, run.data)
        drawn = probes(run.space, options.probes, options.seed)
        if len(drawn) < LEAST:
            raise UsageError(
                f"space {run.space.name!r} gave {len(drawn)} networks, a ranking needs {LEAST}: take a larger space"
            )
        outcomes = self._standalone(drawn)
        kept = [index for index, outcome in enumerate(outcomes) if not math.isnan(outcome["accuracy"])]
        if len(kept) < len(drawn):
            self.reporter.note(
                f"{len(drawn) - len(kept)} of {len(drawn)} probes did not train (see {self.folder}) and are left out"
            )
        found, truth = [drawn[index] for index in kept], [outcomes[index] for index in kept]
        scores = self._scores(found)
        rows = [
            {"digest": each.digest, "architecture": each.to_json(), **truth[i], **{name: scores[name][i] for name in scores}}
            for i, each in enumerate(found)
        ]
        outcome = _compared(found, [one["accuracy"] for one in truth], scores, rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "ranking.json", {**outcome.to_mapping(), "options": _plain(options)})
        write_ranking_report(
            self.folder / "ranking.html", outcome, run.space.name, run.config.data, run.config.training.strategy
        )
        return outcome

    def identity(self) -> str:
        """A digest of what decides the outcome of a probe."""
        what = [asdict(self.options.recipe), self.run_of.data.fingerprint, self.options.threads]
        return blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _standalone(self, found: list[Architecture]) -> list[Mapping[str, float]]:
        options, run = self.options, self.run_of
        base = self.folder if options.probes_of is None else options.probes_of / "ranking"
        folder = base / "probes" / self.identity()
        folder.mkdir(parents=True, exist_ok=True)
        trainer = ProbeTrainer(run.data, options.recipe, folder.absolute(), self.identity(), options.threads)
        texts = [each.to_json() for each in found]
        left = sum(trainer.outcome(each) is None for each in found)
        self.reporter.note(f"{left} of {len(found)} probes are to be trained alone, {options.recipe.epochs} epochs each")
        with self.reporter.phase("Probes") as step:
            step(len(found) - left, len(found), "")
            if options.ray is not None and left:
                from nas.results.ranking.tune import train_with_tune

                return train_with_tune(
                    trainer, texts, options.ray, options.workers, lambda done: step(done, len(found), "trained alone")
                )
            outcomes = []
            executor = LocalExecutor(trainer)
            for index, each in enumerate(found):
                outcomes.append(executor.submit(index, each).result())
                step(index + 1, len(found), f"{outcomes[-1]['accuracy']:.1%} alone")
            return outcomes

    def _scores(self, found: list[Architecture]) -> dict[str, list[float]]:
        """The supernet's, and those of the baselines, higher for the better."""
        run = self.run_of
        evaluate = SupernetEvaluator(run.supernet, run.data, run.config.threads)
        classes, channels = run.outputs
        scores: dict[str, list[float]] = {SUPERNET: [], "params": [], "macs": []}
        batch = run.data.train.take(
            torch.linspace(0, len(run.data.train) - 1, min(_PROXY_IMAGES, len(run.data.train))).round().long()
        )
        names = [name for name in proxy_names() if name not in ("params", "macs")]
        scores |= {name: [] for name in names}
        with self.reporter.phase("Scores") as step:
            for index, each in enumerate(found):
                scores[SUPERNET].append(evaluate(each.to_json())["accuracy"])
                for name, value in sizes(each, classes, channels).items():
                    scores[name].append(value)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(self.options.seed)
                    network = build(each, classes, channels)
                images = run.data.prepare(batch.images, each.resolution)
                for name, value in proxy_scores(network, images, batch.labels, names).items():
                    scores[name].append(value)
                step(index + 1, len(found), "")
        return scores


def _compared(
    found: Sequence[Architecture], truth: Sequence[float], scores: Mapping[str, list[float]], rows: Sequence[Mapping[str, Any]]
) -> RankingOutcome:
    macs = scores["macs"]
    alike = most_similar(macs)
    return RankingOutcome(
        {name: agreement(values, truth) for name, values in scores.items()},
        {name: agreement([values[i] for i in alike], [truth[i] for i in alike]) for name, values in scores.items()},
        biases(found, scores[SUPERNET], truth),
        biases(found, scores[SUPERNET], truth, family_of),
        rows,
        max(macs) / max(1.0, min(macs)),
    )


def _plain(options: RankOptions) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(options), default=str))  # type: ignore[no-any-return]
