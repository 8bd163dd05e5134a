"""What the search itself costs per candidate: asking, telling and archiving, beside evaluations that cost nothing.

    python benchmarks/search_overhead.py [--evaluations 300] [--space tiny] [--strategies random tpe ...]

Describing a candidate is made to cost 0.5 ms of processor time, as the latency predictor's does, and counts as overhead.
Processor time is the goal's measure (it does not count waiting for the disk or for other programs); wall time is shown too.
Writes benchmarks/results/search_overhead.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import optuna
import torch

import nas.search.strategy as strategies
from nas.search.archive import Archive
from nas.search.executors.local import LocalExecutor
from nas.search.loop import run_search
from nas.search.types import Budgets, Problem
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.presets import load_space

DESCRIBE_SECONDS = 0.5e-3
RESULTS = Path(__file__).parent / "results" / "search_overhead.json"


def describe(architecture: Architecture) -> Mapping[str, float]:
    """Made-up cheap metrics, for the price of real ones."""
    end = time.thread_time() + DESCRIBE_SECONDS
    latency = 1e-6 * sum(stage.width * len(stage.blocks) for stage in architecture.stages)
    while time.thread_time() < end:
        pass
    return {"latency": latency, "latency_upper": 1.1 * latency, "params": 1e9 * latency, "macs": 1e11 * latency}


def evaluate(architecture_json: str) -> Mapping[str, float]:
    """A made-up accuracy that depends on the architecture alone."""
    rng = random.Random(architecture_json)
    return {"accuracy": 0.5 + 0.4 * rng.random(), "loss": 1.0 + rng.random()}


def median_latency(space_name: str) -> float:
    """The latency that half of the random members meet: the budget."""
    space, rng = load_space(space_name), random.Random(0)
    found = sorted(describe(space.sample(rng))["latency_upper"] for _ in range(101))
    return found[50]


def overhead(name: str, space_name: str, evaluations: int, budget: float) -> dict[str, float]:
    """Milliseconds a candidate of processor and wall time, and of the archive's part of the former."""
    problem = Problem(load_space(space_name), describe, Budgets({"latency": budget}), ("accuracy", "latency"))
    strategy = strategies.create(name, problem, 0)
    with tempfile.TemporaryDirectory() as folder, LocalExecutor(evaluate) as executor:
        archive = Archive(Path(folder) / "study.journal", problem.space, problem.objectives, problem.budgets)
        spent = [0.0]
        add = archive.add

        def timed(trial: object) -> None:
            start = time.process_time()
            add(trial)  # type: ignore[arg-type]
            spent[0] += time.process_time() - start

        archive.add = timed  # type: ignore[method-assign, assignment]
        processor, wall = time.process_time(), time.perf_counter()
        run_search(problem, strategy, archive, executor, evaluations=evaluations)
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
        archive.close()
    return {key: 1e3 * value / evaluations for key, value in (("cpu", processor), ("wall", wall), ("archive", spent[0]))}


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--strategies", nargs="+", default=strategies.names())
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = median_latency(options.space)
    print(f"per candidate, {options.evaluations} of them in {options.space!r}:")
    print(f"{'strategy':<12}{'CPU ms':>9}{'wall ms':>9}{'archive CPU ms':>16}")
    rows = {}
    for name in options.strategies:
        rows[name] = overhead(name, options.space, options.evaluations, budget)
        print(f"{name:<12}{rows[name]['cpu']:>9.2f}{rows[name]['wall']:>9.2f}{rows[name]['archive']:>16.2f}", flush=True)
    found = {
        "evaluations": options.evaluations,
        "space": options.space,
        "genes": len(load_space(options.space).genes),
        "describe_ms": 1e3 * DESCRIBE_SECONDS,
        "ms_per_candidate": rows,
        "versions": {"python": platform.python_version(), "optuna": optuna.__version__, "torch": torch.__version__},
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
