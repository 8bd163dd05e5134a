"""The answer before anything is trained: how fast is the fastest member of the space on the target?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nas.errors import FileError, InfeasibleError
from nas.predictors.latency_predictor import MIN_NETWORKS
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.measure import Effort, measure_runnable
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.progress import Step
from nas.quantities import format_time
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.genotype import Gene
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.variation import corner

_SECONDS_EACH = 0.15


@dataclass(frozen=True)
class Fastest:
    """The fastest small member found, and its latency."""

    architecture: Architecture
    measurement: Measurement


def fastest(space: SearchSpace, target: Target, in_channels: int, num_classes: int, progress: Step) -> Fastest:
    """Measure small members, one kind of operator after another: mixers first, then what surrounds them.

    A greedy descent over kinds with all sizes at their cheapest; it measures some twenty networks, not all combinations.
    What the target refuses is passed over. Raises MeasurementError where it refuses all.
    """
    genes = corner(space, 0, None)
    best: Fastest | None = None
    kinds = _kinds(space)
    for step, names in enumerate(kinds):
        progress(step, len(kinds), f"fastest small networks, by {names[0].name.split('.')[-1]}")
        trials = list(dict.fromkeys(choice for gene in names for choice in gene.choices))
        options = [{**genes, **{gene.name: choice for gene in names if choice in gene.choices}} for choice in trials]
        members = dict.fromkeys(space.decode(option) for option in options)
        models = [build(member, num_classes, in_channels) for member in members]
        sides = [member.resolution for member in members]
        found = measure_runnable(models, target, sides, in_channels=in_channels, effort=Effort(_SECONDS_EACH, rounds=3))
        for option in options:
            measured = dict(zip(members, found, strict=True))[space.decode(option)]
            if measured is not None and (best is None or measured.median < best.measurement.median):
                best, genes = Fastest(space.decode(option), measured), option
    progress(len(kinds), len(kinds), "done")
    assert best is not None, "a space has at least one kind of mixer"
    return best


def require_latency(found: Fastest, limit: float | None, space: SearchSpace, target: Target) -> None:
    """Raise InfeasibleError where even the fastest member is over the latency budget (seconds)."""
    if limit is not None and found.measurement.low > limit:
        raise InfeasibleError(
            f"no architecture of space {space.name!r} runs in {format_time(limit)} on {target}: the smallest takes "
            f"{format_time(found.measurement.median)}; raise --budget-latency or choose a smaller space"
        )


def require_table(path: Path, target: Target, num_classes: int, in_channels: int) -> None:
    """Raise FileError where a latency table is not of this target, these classes and channels, or holds too few networks."""
    table = LatencyTable.load(path, target)
    if (table.num_classes, table.in_channels) != (num_classes, in_channels):
        raise FileError(
            f"latency table {path} is of {table.num_classes} classes and {table.in_channels} channels, the data has "
            f"{num_classes} and {in_channels}; make one by nas profile --num-classes {num_classes} --in-channels {in_channels}"
        )
    known = sum(1 for _ in table.of_role(TRAIN))
    if known < MIN_NETWORKS:
        raise FileError(
            f"latency table {path} has {known} networks, the predictor needs {MIN_NETWORKS}; go on by `nas profile`"
        )


def _kinds(space: SearchSpace) -> list[list[Gene]]:
    """Genes of kinds that are chosen together: all mixers, all channel mixers, all norms, stem, all downsamplings."""
    found = []
    for kind in ("mixer", "channel_mixer", "norm", "downsample"):
        genes = [gene for gene in space.genes if gene.name.endswith(f".{kind}")]
        if genes:
            found.append(genes)
    found.append([gene for gene in space.genes if gene.name == "stem"])
    if "free" in space.placements and space.placements[0] != "free":
        placement = next(gene for gene in space.genes if gene.name == "placement")
        found.insert(0, [replace(placement, choices=("free",))])
    return found
