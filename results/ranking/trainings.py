"""`ProbeTrainings`: the probes of a ranking trained alone, by each seed, where no earlier ranking has done so."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from nas.files import sole_writer
from nas.progress import Reporter
from nas.results.ranking.outcomes import TrainedProbe, trained_otherwise
from nas.results.ranking.standalone import ProbeTrainer
from nas.search.executors.local import LocalExecutor
from nas.search_spaces.architecture import Architecture
from nas.supernet.data import DataSplits
from nas.supernet.finetune import FinetuneRecipe

if TYPE_CHECKING:
    from nas.results.ranking.ranking import RankOptions


class ProbeTrainings:
    """Architectures -> the accuracies that each reached with each seed. What is trained lies in `folder`, and is kept there.

    What decides an outcome has a folder of its own in it, so that rankings by other recipes may train beside this one.
    """

    def __init__(self, data: DataSplits, options: RankOptions, folder: Path, reporter: Reporter) -> None:
        self.data, self.options, self.folder, self.reporter = data, options, folder, reporter
        recipes = [replace(options.recipe, seed=options.recipe.seed + number) for number in range(options.seeds)]
        self.trainers = [self._trainer(recipe) for recipe in recipes]

    def __call__(self, probes: Sequence[Architecture]) -> list[TrainedProbe]:
        """The probes in their order, each with the seeds with which it did train.

        Raises FileError where another process trains some of them, before any is trained here.
        """
        with contextlib.ExitStack() as held:
            for trainer in self.trainers:
                if _left(trainer, probes):  # what is all there is only read, and by as many rankings as there are
                    held.enter_context(sole_writer(self.folder / trainer.identity))
            accuracies = {str(trainer.recipe.seed): self._accuracies(trainer, probes) for trainer in self.trainers}
        return [
            TrainedProbe(each, {seed: found[i] for seed, found in accuracies.items() if not math.isnan(found[i])})
            for i, each in enumerate(probes)
        ]

    def _trainer(self, recipe: FinetuneRecipe) -> ProbeTrainer:
        """The trainer of one seed, whose folder is named by a digest of what decides the outcome of a probe."""
        options = self.options
        what = [recipe.decisive(), self.data.fingerprint, options.threads]
        identity = blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=8).hexdigest()
        folder = (self.folder / identity).absolute()
        return ProbeTrainer(self.data, recipe, folder, identity, options.threads, options.device)

    def _accuracies(self, trainer: ProbeTrainer, probes: Sequence[Architecture]) -> list[float]:
        """What each probe reached with one seed, as a fraction; not a number where it did not train."""
        note, recipe, folder = self.reporter.note, trainer.recipe, self.folder / trainer.identity
        folder.mkdir(parents=True, exist_ok=True)
        left = _left(trainer, probes)
        seeded = f", with seed {recipe.seed}" if self.options.seeds > 1 else ""
        note(f"{left} of {len(probes)} probes are to be trained alone, {recipe.epochs} epochs each{seeded}")
        if left == len(probes) and (other := trained_otherwise(folder, recipe, self.data.fingerprint)):
            note(f"probes in {folder.parent} were trained otherwise ({other}) and are of no use here")
        outcomes = self._outcomes(trainer, probes, left)
        for name, text in (("engine", "how to compute was tried for"), ("error", "training failed of")):
            told = [one for each in probes if (one := trainer.told(each, name)) is not None]
            if told:
                note(f"{text} {len(told)} of {len(probes)} probes, the first: {told[0]}")
        return [outcome["accuracy"] for outcome in outcomes]

    def _outcomes(self, trainer: ProbeTrainer, probes: Sequence[Architecture], left: int) -> list[Mapping[str, float]]:
        """What each probe reached; `left` of them are trained now."""
        options, count = self.options, len(probes)
        with self.reporter.phase("Probes") as step:
            step(count - left, count, "")
            if options.ray is not None and left:
                from nas.results.ranking.tune import train_with_tune

                texts = [each.to_json() for each in probes]
                return train_with_tune(
                    trainer, texts, options.ray, options.workers, lambda done: step(done, count, "trained alone")
                )
            outcomes = []
            executor = LocalExecutor(trainer)
            for index, each in enumerate(probes):
                outcomes.append(executor.submit(index, each).result())
                reached = outcomes[-1]["accuracy"]
                step(index + 1, count, "did not train" if math.isnan(reached) else f"{reached:.1%} alone")
            return outcomes


def _left(trainer: ProbeTrainer, probes: Sequence[Architecture]) -> int:
    """How many probes are not trained yet. Raises FileError for outcomes of something else."""
    return sum(trainer.outcome(each) is None for each in probes)
