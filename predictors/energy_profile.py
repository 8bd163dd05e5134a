"""The energies of a latency table: those of a part of its networks, counted one after another, resumable at any moment.

Whole networks only: a node runs for less than a counter needs to move. Thirty networks to learn from say how the power of the
target differs between networks; what time they take is learned from all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nas.errors import FileError, MeasurementError
from nas.predictors.energy import Energy, Round, measure_energy
from nas.predictors.export_pool import ExportPool
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.measure import prepare
from nas.predictors.meter import Meter
from nas.predictors.threads import threads
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build

COUNTED = {TRAIN: 30, HELD_OUT: 10}
"""Of how many networks of each role the energy is counted, at most."""
ATTEMPTS = 3
GROUP = 4
"""Networks that are exported at once, where the target reads files."""

Watch = Callable[[str, int, str, Round], None]
"""Takes the digest of a network, the number of a round, the meter's name, and the round."""


def count_energies(table: LatencyTable, meter: Meter, watch: Watch) -> Iterator[tuple[int, int]]:
    """Count the energy of the networks that lack it into the table; how many of how many are done, after each.

    Raises MeasurementError where the counter cannot be believed, and where a network does not run any more.
    """
    left, done = missing(table), 0
    with ExportPool(table.target, table.num_classes, table.in_channels) as exports:
        for group in (left[start : start + GROUP] for start in range(0, len(left), GROUP)):
            files = exports.files(group)
            for architecture in group:
                file = files.get(architecture.digest)
                if isinstance(file, MeasurementError):
                    raise file
                table.add_energy(architecture, _counted(architecture, file, table, meter, watch))
                done += 1
                yield done, len(left)


def missing(table: LatencyTable) -> list[Architecture]:
    """The networks of the table whose energy is still to be counted, in the order of their digests."""
    found: list[Architecture] = []
    for role, number in numbers_missing(table, 0, 0).items():
        fresh = [item.architecture for item in table.of_role(role) if item.architecture.digest not in table.energies]
        found += fresh[:number]
    return sorted(found, key=lambda architecture: architecture.digest)


def numbers_missing(table: LatencyTable | None, train: int, held_out: int) -> dict[str, int]:
    """How many networks of each role lack an energy, in a table that is to have so many of each, or has more."""
    known = [] if table is None else [item.role for item in table.networks.values()]
    done = [] if table is None else [table.networks[digest].role for digest in table.energies]
    wanted = {TRAIN: max(train, known.count(TRAIN)), HELD_OUT: max(held_out, known.count(HELD_OUT))}
    return {role: max(min(COUNTED[role], number) - done.count(role), 0) for role, number in wanted.items()}


def require_same_meter(table: LatencyTable, meter: Meter, path: Path) -> None:
    """Raise FileError where the table's energies were counted by another meter."""
    others = sorted({item.meter for item in table.energies.values()} - {meter.name})
    if others:
        raise FileError(
            f"latency table {path} has energies counted by {', '.join(others)}, not by {meter.name}, and each counts other "
            "parts of a machine; name another file"
        )


def _counted(architecture: Architecture, file: Path | None, table: LatencyTable, meter: Meter, watch: Watch) -> Energy:
    """The energy of one network. What a restless machine spoils is counted again; the third error passes through."""
    target = table.target
    model = file or build(architecture, table.num_classes, table.in_channels)
    with threads(target.threads):
        run = prepare(model, target, architecture.resolution, table.in_channels)
        for attempt in range(ATTEMPTS):
            rounds: list[Round] = []
            try:
                found = measure_energy(run, target, meter, seed=table.seed, watch=rounds.append)
            except MeasurementError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                for number, one in enumerate(rounds):
                    watch(architecture.digest, number, meter.name, one)
                return found
    raise AssertionError("unreachable: the last attempt returns or raises")
