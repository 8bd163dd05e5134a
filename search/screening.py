"""Cheap scores first: which candidates are worth scoring in full.

Asynchronous successive halving with two rungs (Li et al. 2020, "A system for massively parallel hyperparameter tuning",
arXiv:1810.05934, algorithm 2), decided when a candidate is handed out rather than later: it is scored in full at once, or
never, so that a search that is killed and resumed decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from nas.errors import UsageError
from nas.quantities import format_duration
from nas.search.types import Problem, Trial
from nas.search_spaces.architecture import Architecture

SCORES = frozenset({"accuracy", "loss"})
NO_BAR = -math.inf
ROWS = 256


@dataclass(frozen=True)
class Screening:
    """Score in full whose cheap score is among the best `promote` of those seen.

    With several objectives a candidate is compared with those alone that are no worse than it in all others (a latency, a
    size): the fast end of a front is not crowded out by the accurate one. Raises UsageError for a share outside (0, 1].
    """

    promote: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.promote <= 1.0:
            raise UsageError(f"the share of candidates to score in full lies above 0 and at most at 1, got {self.promote}")


class Bars:
    """The bars of one search. What they take of its trials is kept, so that a bar costs a look at each and no sorting."""

    def __init__(self, screening: Screening, problem: Problem, trials: Iterable[Trial] = ()) -> None:
        self.screening, self.problem = screening, problem
        self._others = [name for name in problem.objectives if name not in SCORES]
        self._rows = np.empty((ROWS, 2 + len(self._others)))
        self._count = 0
        self.tell(trials)

    def tell(self, trials: Iterable[Trial]) -> None:
        """Learn of finished trials, each once. A cheap score that is no finite number, which an archive drops, is none."""
        for trial in trials:
            score = trial.metrics.get("screening", math.nan)
            if not trial.failed and math.isfinite(score):
                if self._count == len(self._rows):
                    self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
                self._rows[self._count] = [trial.number, score, *(trial.metrics[name] for name in self._others)]
                self._count += 1

    def of(self, number: int, architecture: Architecture) -> float:
        """The cheap score that a trial must reach; a function of the trials of lower numbers alone."""
        cheap = self.problem.cheap(architecture)
        rows = self._rows[: self._count]
        rivals = (rows[:, 0] < number) & (rows[:, 2:] <= [cheap[name] for name in self._others]).all(axis=1)
        scores = rows[rivals, 1]
        place = math.ceil(self.screening.promote * (len(scores) + 1))
        return float(np.partition(scores, -place)[-place]) if place <= len(scores) else NO_BAR


@dataclass(frozen=True)
class Saving:
    """What screening spared: images scored by `candidates`, of which `full` were scored on all `images`.

    `seconds` is what the cheap scores took beside that, where a proxy gave them.
    """

    candidates: int
    full: int
    images: int
    scored: int
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share of the images that full scores of all candidates would have taken."""
        return self.scored / (self.candidates * self.images) if self.candidates * self.images else 1.0

    def to_mapping(self) -> Mapping[str, float]:
        """The numbers by name."""
        return {
            "candidates": self.candidates,
            "full": self.full,
            "images": self.images,
            "scored": self.scored,
            "share": self.share,
            "seconds": self.seconds,
        }

    @classmethod
    def from_mapping(cls, data: Mapping[str, float]) -> Self:
        """What `to_mapping` wrote."""
        candidates, full, images, scored = (int(data[name]) for name in ("candidates", "full", "images", "scored"))
        return cls(candidates, full, images, scored, data.get("seconds", 0.0))

    def __str__(self) -> str:
        spent = f", and {format_duration(self.seconds)} for the proxy" if self.seconds else ""
        return (
            f"{self.full} of {self.candidates} candidates scored on all {self.images} validation images, "
            f"{self.share:.0%} of the images of scoring all in full{spent}"
        )


def saving(trials: Iterable[Trial]) -> Saving | None:
    """What screening spared in some trials; None where nothing was screened. Trials taken over cost nothing here.

    These tell how many images there are as well: of the others, none need have been scored in full.
    """
    known = [trial for trial in trials if not trial.failed and "images" in trial.metrics]
    scored = [trial for trial in known if not trial.origin]
    if not any("screening" in trial.metrics for trial in scored):
        return None
    images = round(max(trial.metrics["images"] for trial in known))
    full = sum(trial.full for trial in scored)
    seconds = sum(trial.metrics.get("screening_seconds", 0.0) for trial in scored)
    looked = sum(trial.metrics["images"] + trial.metrics.get("screening_images", 0.0) for trial in scored)
    return Saving(len(scored), full, images, round(looked), seconds)
