"""Profiling a target: node times in context and random whole networks, within a time budget, resumable at any moment."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from nas.errors import FileError
from nas.predictors.environment import environment
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.measure import Effort, anchor_seconds, measure_many, prepare, threads
from nas.predictors.node_timing import in_place, time_in_place, time_repeated
from nas.predictors.remote.place import place
from nas.predictors.runtime import runtime
from nas.predictors.target import Target
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.space import SearchSpace

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
NODE_SHARE = 0.5
SAVE_SECONDS = 3.0
MAX_CENSUS = 2000
FREQUENCIES = 400
GROUP = 4


def profile(
    space: SearchSpace,
    target: Target,
    table_path: Path,
    *,
    in_channels: int = 3,
    num_classes: int = 1000,
    seed: int = 0,
    train: int = 40,
    held_out: int = 20,
    seconds: float | None = None,
    progress: Progress = lambda done, total, label: None,
) -> LatencyTable:
    """Measure the space on the target into the table at `table_path`, and return it.

    Half of `seconds` (default: `default_seconds`) goes to node times of the space's random members; the rest to `train` and
    `held_out` random networks, all of which are measured even where that takes longer. What the file holds already is not
    measured again, and the file is rewritten every few seconds. Everything but the clock follows from `seed`.
    Raises FileError where the file is of another target or question, MeasurementError where the target cannot be measured.
    """
    target.require()
    budget = default_seconds(target, train + held_out) if seconds is None else seconds
    table = _open(space, target, table_path, in_channels, num_classes, seed)
    # By digest, so that training and held-out networks meet the same moods of the machine.
    wanted = sorted(networks_of(space, seed, train, held_out), key=lambda pair: pair[0].digest)
    total = len(wanted)
    started, before = time.perf_counter(), table.spent

    saved = started

    def save(every: float = 0.0) -> float:
        nonlocal saved
        table.spent = before + time.perf_counter() - started
        if time.perf_counter() - saved >= every:
            table.save(table_path)
            saved = time.perf_counter()
        return table.spent

    for batch in node_batches(space, table):
        if save(SAVE_SECONDS) >= NODE_SHARE * budget:
            break
        for node, taken in batch():
            table.add_node(node, taken)
        table.census += 1
        progress(0, total, f"{len(table.nodes)} node times")
    left = [(architecture, role) for architecture, role in wanted if architecture.digest not in table.networks]
    for group in _groups(left):
        effort = Effort(max((budget - save()) / max(len(left), 1) * 0.8, 0.05), rounds=3)
        _measure_networks(group, table, effort)
        left = left[len(group) :]
        progress(total - len(left), total, "whole networks")
    save()
    return table


def profile_estimate(space: SearchSpace, target: Target, *, train: int = 40, held_out: int = 20) -> float:
    """About how many seconds `profile` takes with its default budget: preparing and timing every network, and the nodes."""
    if target.place:
        return default_seconds(target, train + held_out)
    with threads(target.threads):
        start = time.perf_counter()
        run = prepare(build(space.sample(random.Random(0))), target, space.sample(random.Random(0)).resolution)
        prepared = time.perf_counter() - start
        run()
        once = time.perf_counter()
        run()
        once = time.perf_counter() - once
    slowest = (train + held_out) * (prepared + once * 40)
    return max(default_seconds(target, train + held_out), NODE_SHARE * default_seconds(target, train + held_out) + slowest)


def default_seconds(target: Target, networks: int) -> float:
    """The time budget of a profile: 45 s of measuring, and what the runtime needs to prepare the networks and as many nodes."""
    preparation = place(target.place).preparation if target.place else runtime(target.runtime).preparation
    return 45.0 + 2 * networks * preparation


def networks_of(space: SearchSpace, seed: int, train: int, held_out: int) -> Iterator[tuple[Architecture, str]]:
    """Distinct random architectures, each drawn from a stream of its own, with their roles; fewer in a tiny space."""
    seen: set[str] = set()
    for role, number in ((TRAIN, train), (HELD_OUT, held_out)):
        drawn = (space.sample(random.Random(f"{seed}:{role}:{index}")) for index in range(20 * number))
        fresh = (item for item in drawn if item.digest not in seen and not seen.add(item.digest))  # type: ignore[func-returns-value]
        yield from ((architecture, role) for architecture in itertools.islice(fresh, number))


def node_batches(space: SearchSpace, table: LatencyTable) -> Iterator[Callable[[], list[tuple[Node, float]]]]:
    """What is left of the census, as calls that time some nodes each.

    In place: whole random networks, without end worth naming. Repeated: distinct nodes in order of their frequency.
    """
    if in_place(table.target):
        for index in range(table.census, MAX_CENSUS):
            yield partial(time_in_place, _drawn(space, table, index), table)
    else:
        for group in list(_groups(frequent_nodes(space, table)))[table.census :]:
            yield partial(time_repeated, group, table)


def frequent_nodes(space: SearchSpace, table: LatencyTable) -> list[Node]:
    """The distinct nodes of random architectures of the space, the most frequent first."""
    counts: Counter[str] = Counter()
    known: dict[str, Node] = {}
    for index in range(FREQUENCIES):
        for node in nodes(_drawn(space, table, index), None, table.in_channels, table.num_classes):
            counts[node.key] += 1
            known[node.key] = node
    return [known[key] for key, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _drawn(space: SearchSpace, table: LatencyTable, index: int) -> Architecture:
    return space.sample(random.Random(f"{table.seed}:census:{index}"))


def _open(
    space: SearchSpace, target: Target, path: Path, in_channels: int, num_classes: int, seed: int
) -> LatencyTable:  # fmt: skip
    if path.exists():
        table = LatencyTable.load(path, target)
        for name, wanted in (("space", space.name), ("in_channels", in_channels), ("num_classes", num_classes), ("seed", seed)):
            if getattr(table, name) != wanted:
                raise FileError(f"latency table {path} has {name} {getattr(table, name)}, not {wanted}; name another file")
    else:
        table = LatencyTable(target, space.name, in_channels, num_classes, seed)
    if not table.environment:
        table.environment = place(target.place).environment(target) if target.place else environment(target.runtime)
    table.anchor = table.anchor or anchor_seconds(target)
    return table


def _measure_networks(group: Sequence[tuple[Architecture, str]], table: LatencyTable, effort: Effort) -> None:
    built = [build(architecture, table.num_classes, table.in_channels) for architecture, _ in group]
    sides = [architecture.resolution for architecture, _ in group]
    found = measure_many(
        built, table.target, sides, in_channels=table.in_channels, effort=effort, seed=table.seed, reference=table.anchor
    )  # fmt: skip
    for (architecture, role), measurement in zip(group, found, strict=True):
        table.add(architecture, measurement, role)


def _groups(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + GROUP] for start in range(0, len(items), GROUP))
