"""How much faster two workers of one thread each train than one: images per second, in turn.

    python benchmarks/supernet_workers.py [--space tiny] [--strategy sandwich] [--batch 64] [--steps 12] [--rounds 3]

Each measurement starts `torchrun` with one or with two processes, which train the same steps of the same supernet; the time
is that of the steps alone, on the slowest worker, after two that are not counted. Two workers share a batch, each on half of
its images, and give the weights that one worker with the whole of it gives: that is measured with `--batch` images for each
of the two, and with half as many, where a network takes more than half the time. Needs two free cores.
Writes benchmarks/results/supernet_workers.json.
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
WORDS = {1: "one worker", 2: "two workers"}


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
    cases = {
        f"{WORDS[count]}, {batch} images": (count, batch) for batch in (options.batch, 2 * options.batch) for count in (1, 2)
    }
    rates: dict[str, list[float]] = {name: [] for name in cases}
    for round_number in range(options.rounds):
        for name in cases if round_number % 2 == 0 else reversed(cases):
            count, batch = cases[name]
            rates[name].append(options.steps * batch / seconds_of(count, batch, options))
            print(f"{name}: {rates[name][-1]:.1f} images a second", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, median in medians.items():
        print(f"{name}: {median:.1f} images a second in the median")
    ratios = {}
    for batch in (options.batch, 2 * options.batch):
        one, two = (medians[f"{WORDS[count]}, {batch} images"] for count in (1, 2))
        ratios[f"{batch} images, shared"] = two / one
        print(
            f"two workers that share {batch} images a step: {two / one:.2f} times the images a second of one that has them all"
        )
    each = medians[f"{WORDS[2]}, {2 * options.batch} images"] / medians[f"{WORDS[1]}, {options.batch} images"]
    ratios[f"{options.batch} images each"] = each
    print(f"two workers with {options.batch} images each: {each:.2f} times the images a second of one with as many")
    measured = {"ratios": ratios, "images_per_second": rates, "options": vars(options), "environment": environment()}
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n")


def seconds_of(count: int, batch: int, options: argparse.Namespace) -> float:
    """How long `count` workers take for the steps, with whole batches of `batch` images."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", __file__]
    given = [f"--{name}={value}" for name, value in (vars(options) | {"batch": batch}).items()]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    lines = subprocess.run([*command, *given], check=True, capture_output=True, text=True, env=environ).stdout
    return float(json.loads(lines.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
