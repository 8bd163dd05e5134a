"""How much faster two workers of one thread each train than one: images per second, in turn.

    python benchmarks/supernet_workers.py [--space tiny] [--strategy sandwich] [--batch 64] [--steps 12] [--rounds 3]

Each measurement starts `torchrun` with one or with two processes, which train the same steps of the same supernet on the same
whole batches; the time is that of the steps alone, on the slowest worker, after two that are not counted. Needs two free
cores. Writes benchmarks/results/supernet_workers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from nas.predictors.environment import environment
from nas.search_spaces.presets import load_space
from nas.supernet.data import load_data
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.schedule import adamw
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, training_strategy
from nas.supernet.supernet import Supernet
from nas.supernet.workers import launched

RESULTS = Path(__file__).parent / "results" / "supernet_workers.json"
UNCOUNTED = 2


def work(options: argparse.Namespace) -> None:
    """Train, as one of the workers; the first prints the seconds."""
    torch.set_num_threads(1)
    with launched() as workers:
        supernet = Supernet(load_space(options.space), 10, 1).train()
        data = load_data("digits", max(supernet.space.resolutions))
        batch = data.train.take(torch.arange(options.batch))
        optimizer = adamw(supernet, 1e-3, 0.05, (0.9, 0.99))
        plan_of = training_strategy(options.strategy).plan
        with StepRunner(supernet, data, StepOptions(workers=workers)) as runner:
            for step in range(UNCOUNTED + options.steps):
                if step == UNCOUNTED:
                    workers.wait()
                    began = time.perf_counter()
                draw = Draw(supernet.space, 0, step, UNCOUNTED + options.steps, TrainingRecipe().networks)
                optimizer.zero_grad(set_to_none=True)
                runner.backward(plan_of(draw), batch.images, batch.labels)
                optimizer.step()
        workers.wait()
        if workers.rank == 0:
            print(json.dumps(time.perf_counter() - began))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--strategy", default="sandwich")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        work(options)
        return
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for count in (1, 2, 2, 1):
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", __file__]
            given = [f"--{name}={value}" for name, value in vars(options).items()]
            environ = os.environ | {"OMP_NUM_THREADS": "1"}
            lines = subprocess.run([*command, *given], check=True, capture_output=True, text=True, env=environ).stdout
            seconds[count].append(json.loads(lines.strip().splitlines()[-1]))
            print(f"{count} workers: {seconds[count][-1]:.2f} s", flush=True)
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[2])
    images = {count: options.steps * options.batch / statistics.median(found) for count, found in seconds.items()}
    print(f"images per second: {images[1]:.1f} by one, {images[2]:.1f} by two; ratio {ratio:.2f}")
    RESULTS.write_text(
        json.dumps({"ratio": ratio, "seconds": seconds, "options": vars(options), "environment": environment()}, indent=1)
        + "\n"
    )


if __name__ == "__main__":
    main()
