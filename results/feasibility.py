"""The answer before anything is trained: between which times do the members of the space run on the target?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nas.errors import FileError, InfeasibleError, MeasurementError
from nas.predictors.cost import cost
from nas.predictors.coverage import operators_of_space
from nas.predictors.environment import differences
from nas.predictors.interleaving import Effort
from nas.predictors.latency_predictor import MIN_NETWORKS
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.measure import measure_many, measure_runnable
from nas.predictors.node_times import operators_of
from nas.predictors.remote.place import environment_of
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, Speed
from nas.progress import Step
from nas.quantities import format_time
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.genotype import Gene
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.variation import corner

_SECONDS_EACH = 0.15


_SLOWEST = 2
"""How many of the largest members are measured: a large one may take a second a run."""


@dataclass(frozen=True)
class Fastest:
    """A member at one end of the space, the fastest or the slowest that was found, and its latency."""

    architecture: Architecture
    measurement: Measurement


def fastest(
    space: SearchSpace, target: Target, in_channels: int, num_classes: int, progress: Step, speed: Speed | None = None
) -> Fastest:
    """Measure small members, one kind of operator after another: mixers first, then what surrounds them.

    Times are told at `speed`, by default at that of the machine now.
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
        effort = Effort(_SECONDS_EACH, rounds=3)
        found = measure_runnable(models, target, sides, in_channels=in_channels, effort=effort, speed=speed)
        for option in options:
            measured = dict(zip(members, found, strict=True))[space.decode(option)]
            if measured is not None and (best is None or measured.median < best.measurement.median):
                best, genes = Fastest(space.decode(option), measured), option
    progress(len(kinds), len(kinds), "done")
    assert best is not None, "a space has at least one kind of mixer"
    return best


def slowest(
    space: SearchSpace, target: Target, in_channels: int, num_classes: int, progress: Step, speed: Speed | None = None
) -> Fastest:
    """Measure the members of most MACs that a greedy ascent over kinds finds, all sizes at their dearest; the slower one.

    Members that the target refuses are passed over. Raises MeasurementError where it refuses all that were found.
    """
    genes = corner(space, -1, None)
    tried: dict[Architecture, int] = {}
    for names in _kinds(space):
        trials = dict.fromkeys(choice for gene in names for choice in gene.choices)
        options = [{**genes, **{gene.name: choice for gene in names if choice in gene.choices}} for choice in trials]
        macs = [cost(space.decode(option), in_channels=in_channels, num_classes=num_classes).macs for option in options]
        tried.update(zip((space.decode(option) for option in options), macs, strict=True))
        genes = options[macs.index(max(macs))]
    found: list[Fastest] = []
    refused: MeasurementError | None = None
    for member in sorted(tried, key=lambda member: (-tried[member], member.digest)):
        progress(len(found), _SLOWEST, "slowest large networks")
        model, effort = build(member, num_classes, in_channels), Effort(_SECONDS_EACH, rounds=1)
        try:
            side = member.resolution
            (one,) = measure_many([model], target, side, in_channels=in_channels, effort=effort, speed=speed)
            found.append(Fastest(member, one))
        except MeasurementError as error:
            refused = error
        if len(found) == _SLOWEST:
            break
    if not found:
        raise refused or MeasurementError(f"space {space.name!r} has no member to measure on {target}; add operators")
    progress(_SLOWEST, _SLOWEST, "done")
    return max(found, key=lambda item: item.measurement.median)


def span_remark(quick: Fastest, slow: Fastest, limit: float | None, space: SearchSpace, target: Target) -> str:
    """One line on between which times the space runs, and whether a latency budget (seconds) leaves anything out."""
    ends = f"{format_time(quick.measurement.median)} to {format_time(slow.measurement.median)}"
    told = f"the members of {space.name!r} take about {ends} on {target}: the fastest and the slowest found"
    if limit is not None and slow.measurement.high <= limit:
        told += f"; all found are under {format_time(limit)}, so the budget leaves nothing out"
    return told


def require_latency(found: Fastest, limit: float | None, space: SearchSpace, target: Target) -> None:
    """Raise InfeasibleError, with the fastest member found, where even that is over the latency budget (seconds)."""
    if limit is not None and found.measurement.low > limit:
        took = found.measurement.median
        raise InfeasibleError(
            f"no architecture of space {space.name!r} runs in {format_time(limit)} on {target}: the fastest found takes "
            f"{format_time(took)} ({took / limit - 1:+.0%}); raise --budget-latency or choose a smaller space",
            found.architecture,
        )


def require_table(
    path: Path, target: Target, num_classes: int, in_channels: int, space: SearchSpace | None = None
) -> list[str]:
    """Raise FileError where a latency table does not fit; the rest that a reader should know of it, one line each.

    It must be of this target, this machine and these library versions, of the data's classes and channels, with networks
    enough, and hold times of all operators of `space`.
    """
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
    changed = differences(table.environment, environment_of(target))
    if changed:
        raise FileError(f"latency table {path} was measured elsewhere: {'; '.join(changed)}; profile this machine anew")
    return [] if space is None else _space_remarks(path, table, space)


def _space_remarks(path: Path, table: LatencyTable, space: SearchSpace) -> list[str]:
    """What to say of a table that is of another space. Raises FileError where it lacks operators of this one."""
    strangers = operators_of_space(space) - operators_of(table.nodes.values()) - table.excluded
    if strangers:
        names = ", ".join(sorted(label.partition(":")[2] for label in strangers))
        raise FileError(f"latency table {path} of space {table.space!r} has no times of {names}; profile space {space.name!r}")
    if table.space != space.name:
        return [f"latency table {path} is of space {table.space!r}, not {space.name!r}: expect wider intervals"]
    return []


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
