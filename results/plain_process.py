"""How much longer an exported network takes in a program of its own, which gives memory back as the system does.

Networks are measured while memory is kept (`nas.predictors.allocator`). Whoever runs one in a program that does not keep it
may find it slower where its maps are large; a fresh process tells by how much.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from nas.predictors.allocator import KEPT, SETTINGS, memory_kept, memory_policy
from nas.predictors.machine import pinned
from nas.predictors.measure import prepare
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.results.load import load_exported
from nas.results.metrics import memory
from nas.search_spaces.architecture import Architecture

LEAST_BYTES = 8 << 20
"""Networks that need less memory than this keep all of it anyway."""
NOTEWORTHY = 1.25
SECONDS, LEAST_RUNS, ROUNDS, LONGEST = 0.3, 5, 3, 120.0


def plain_process_note(
    folder: Path, target: Target, architecture: Architecture, num_classes: int, in_channels: int
) -> str | None:
    """What to say of an exported network that is slower in a program that gives memory back; None where it is not, or where
    that cannot be told."""
    asks = (target.device, target.runtime, target.place) == ("cpu", "eager", "") and memory_policy() == KEPT
    if not asks or memory(architecture, target, num_classes, in_channels) < LEAST_BYTES:
        return None
    ratio = _slower(folder, target, architecture.resolution, in_channels)
    if ratio is None or ratio < NOTEWORTHY:
        return None
    settings = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    return (
        f"measured with memory kept between runs; a program that gives it back, as most do, takes {ratio:.2f} times as long "
        f"for this network: start it with {settings}, or with jemalloc or tcmalloc"
    )


def _slower(folder: Path, target: Target, side: int, in_channels: int) -> float | None:
    """How many times as long the network takes in a fresh process as with memory kept there; None where none can be had."""
    question = json.dumps([str(folder), str(target), side, in_channels])
    command = [sys.executable, "-P", "-m", "nas.results.plain_process", question]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LONGEST)
        return float(done.stdout.split()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _seconds(run: Callable[[], object]) -> float:
    """The median of runs that take SECONDS together, after one that does not count."""
    run()
    taken: list[float] = []
    while len(taken) < LEAST_RUNS or sum(taken) < SECONDS:
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main(question: str) -> None:
    """Print how many times as long the network takes as with memory kept."""
    folder, told, side, in_channels = json.loads(question)
    target = Target.parse(told)
    run = prepare(load_exported(Path(folder)), target, side, in_channels)
    with threads(target.threads), pinned(target.threads):
        plain = min(_seconds(run) for _ in range(ROUNDS))  # before memory is kept: that changes the process
        with memory_kept():
            kept = min(_seconds(run) for _ in range(ROUNDS))
    sys.stdout.write(f"{plain / kept}\n")


if __name__ == "__main__":
    main(sys.argv[1])
