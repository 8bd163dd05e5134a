"""What the search itself costs per candidate: asking, telling and archiving, beside evaluations that cost nothing.

    python benchmarks/search_overhead.py [--evaluations 5000] [--space tiny] [--strategies random tpe ...] [--minutes 10]

Describing a candidate is made to cost 0.5 ms of processor time, as the latency predictor's does, and counts as overhead.
Processor time is the goal's measure (it does not count waiting for the disk or for other programs); wall time is shown too.
"growth" is the cost of the last tenth of the candidates over that of the first: what grows no faster than linearly in the
archive stays below 19, which is what a cost in proportion to the archive has. A strategy that is stopped after `--minutes`
tells what it took up to there, and how many candidates that were. Results of other strategies are kept, so that
they may be measured one by one. Writes benchmarks/results/search_overhead.json.
"""

from __future__ import annotations

import argparse
import json
import math
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
from nas.search.types import Budgets, Problem, Trial
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


def overhead(name: str, space_name: str, evaluations: int, budget: float, seconds: float = math.inf) -> dict[str, float]:
    """Milliseconds of processor and wall time a candidate, the growth of the former, and candidates asked for twice.

    Ends early after some `seconds` by the clock on the wall.
    """
    problem = Problem(load_space(space_name), describe, Budgets({"latency": budget}), ("accuracy", "latency"))
    strategy = strategies.create(name, problem, 0)
    with tempfile.TemporaryDirectory() as folder, LocalExecutor(evaluate) as executor:
        path = Path(folder) / "study.journal"
        with Archive(path, problem.space, problem.objectives, problem.budgets) as archive:
            marks: list[float] = []

            def mark(done: int, total: int, best: Trial | None) -> None:
                marks.append(time.process_time())

            wall = time.perf_counter()
            run_search(
                problem, strategy, archive, executor, evaluations=evaluations, progress=mark,
                should_stop=lambda: time.perf_counter() > wall + seconds,
            )  # fmt: skip
            took = time.perf_counter() - wall
            distinct = len({trial.architecture.digest for trial in archive.trials()})
    done = len(marks) - 1
    if done < 1:
        raise SystemExit(f"{name} evaluated no candidate within --minutes {seconds / 60:g}; give it more")
    tenth = max(1, min(evaluations // 10, done // 2))
    first, last = marks[tenth] - marks[0], marks[-1] - marks[-1 - tenth]
    return {
        "cpu": 1e3 * (marks[-1] - marks[0]) / done,
        "wall": 1e3 * took / done,
        "first_tenth": 1e3 * first / tenth,
        "last_tenth": 1e3 * last / tenth,
        "growth": last / first,
        "candidates": done,
        "duplicates": done - distinct,
    }


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=5000)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--strategies", nargs="+", default=strategies.names())
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop a strategy after so many")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = median_latency(options.space)
    columns = ("cpu", "first_tenth", "last_tenth", "growth", "candidates", "duplicates")
    print(f"| strategy | {' | '.join(name.replace('_', ' ') for name in columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name in options.strategies:
        row = overhead(name, options.space, options.evaluations, budget, 60.0 * options.minutes)
        print(f"| {name} | {' | '.join(f'{row[column]:.4g}' for column in columns)} |", flush=True)
        write(options, name, row)


def write(options: argparse.Namespace, name: str, row: Mapping[str, float]) -> None:
    """Add a strategy to the results, unless these are of another size."""
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    same = (known.get("evaluations"), known.get("space")) == (options.evaluations, options.space)
    found = {
        "evaluations": options.evaluations,
        "space": options.space,
        "genes": len(load_space(options.space).genes),
        "describe_ms": 1e3 * DESCRIBE_SECONDS,
        "ms_per_candidate": {**(known["ms_per_candidate"] if same else {}), name: {**row, "load": os.getloadavg()[0]}},
        "versions": {"python": platform.python_version(), "optuna": optuna.__version__, "torch": torch.__version__},
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
