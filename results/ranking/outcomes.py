"""Probes that were trained alone, out of the files that `nas rank` leaves: their accuracies with each seed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.errors import FileError, UsageError
from nas.files import read_json
from nas.results.ranking.agreement import LEAST, Agreement, mutual_agreement
from nas.search_spaces.architecture import Architecture
from nas.supernet.finetune import FinetuneRecipe

_NAMED = re.compile(r"[0-9a-f]{16}\.json")
"""Outcomes are named by the digest of their architecture."""


@dataclass(frozen=True)
class TrainedProbe:
    """An architecture and its validation accuracies after training alone, by the seed of the training."""

    architecture: Architecture
    accuracies: Mapping[str, float]

    @property
    def truth(self) -> float:
        """The mean over the seeds."""
        return sum(self.accuracies.values()) / len(self.accuracies)


def read_outcomes(folders: Sequence[Path]) -> list[TrainedProbe]:
    """The probes of all outcome files at any depth below some folders, by digest; what failed to train is left out.

    A seed is known from the recipe in the file, or in another of the same training; where none has one, each training stands
    for a seed. Raises FileError where there is none, and UsageError where recipes or data differ in more than the seed.
    """
    found: dict[str, dict[str, float]] = {}
    architectures: dict[str, Architecture] = {}
    recipes: dict[str, Path] = {}
    outcomes = list(_outcomes(folders))
    seeds = {told["identity"]: str(told["recipe"]["seed"]) for _, told in outcomes if "recipe" in told}
    for path, told in outcomes:
        accuracy = math.nan if told.get("accuracy") is None else float(told["accuracy"])
        if not math.isfinite(accuracy):
            continue
        recipe = {**told.get("recipe", {}), **({"data": told["data"]} if "data" in told else {})}
        recipe.pop("seed", None)
        seed = seeds.get(told["identity"], told["identity"])
        recipes.setdefault(str(sorted(recipe.items())) if recipe else "", path)
        architecture = Architecture.from_json(told["architecture"])
        architectures[architecture.digest] = architecture
        found.setdefault(architecture.digest, {}).setdefault(seed, accuracy)
    if not found:
        raise FileError(f"no outcome of a probe lies in {', '.join(map(str, folders))}: `nas rank RUN` trains some")
    known = [path for recipe, path in recipes.items() if recipe]
    if len(known) > 1:
        raise UsageError(
            f"{known[0]} and {known[1]} were trained by different recipes or on other data: give probes of one kind alone"
        )
    return [TrainedProbe(architectures[digest], found[digest]) for digest in sorted(found)]


def trained_otherwise(folder: Path, recipe: FinetuneRecipe, data: str) -> str:
    """How probes in the folders beside one were trained that differ from a recipe on data in more than the seed, else "".

    Those that differ least are told of. What files do not tell, as the number of threads, is named where nothing else differs.
    """
    wanted = {**recipe.decisive(), "data": data}
    found: list[list[str]] = []
    for path, told in _outcomes([folder.parent]):
        theirs = {**wanted, **told.get("recipe", {}), "data": told.get("data", data)}
        other = [f"{name} {theirs[name]}, not {value}" for name, value in wanted.items() if theirs[name] != value]
        if [text.split()[0] for text in other] == ["seed"]:
            return ""
        if path.parent != folder:
            found.append(other)
    if not found:
        return ""
    least = min(found, key=len)
    return "; ".join(least) or "by another number of threads"


def _outcomes(folders: Sequence[Path]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The outcome files below some folders, each with what it says."""
    for path in sorted(path for folder in folders for path in folder.rglob("*.json") if _NAMED.fullmatch(path.name)):
        told = read_json(path, "outcome of a probe")
        if isinstance(told, Mapping) and {"architecture", "identity"} <= told.keys():
            yield path, told


def ceiling(probes: Sequence[TrainedProbe]) -> Agreement | None:
    """How far training alone agrees with itself, with other seeds: the mean over all pairs of seeds of the probes' order.

    Of the probes that have every seed; None where there are fewer than two seeds, or fewer than three such probes. No score
    can be expected to agree much better with one training, and with the mean of several only somewhat better.
    """
    seeds = sorted({seed for probe in probes for seed in probe.accuracies})
    whole = [probe for probe in probes if len(probe.accuracies) == len(seeds)]
    if len(seeds) < 2 or len(whole) < LEAST:
        return None
    return mutual_agreement([[probe.accuracies[seed] for probe in whole] for seed in seeds])


def counts_of_seeds(probes: Sequence[TrainedProbe]) -> dict[str, Any]:
    """How many probes there are, and the fewest and the most seeds of one."""
    numbers = [len(probe.accuracies) for probe in probes]
    return {"probes": len(probes), "fewest_seeds": min(numbers), "most_seeds": max(numbers)}
