"""How much memory a training step of the supernet takes, against the largest network standing alone plus the store.

    python benchmarks/supernet_memory.py [--space tiny] [--batch 64] [--strategy sandwich]

Each figure is the peak resident memory of a process of its own less what it holds before the first step. Supernet: the store,
its gradients and some steps of the strategy, whose networks are computed in turn. Alone: the first networks of those steps, the
largest, each extracted, with its gradients, and trained as many steps as the supernet's had networks. Neither has an optimiser.
Writes benchmarks/results/supernet_memory.json.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn import functional as F

from nas.predictors.environment import environment
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.presets import load_space
from nas.supernet.data import DataSplits, load_data
from nas.supernet.data.base import ImageSet
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, training_strategy
from nas.supernet.supernet import Supernet

RESULTS = Path(__file__).parent / "results" / "supernet_memory.json"
STEPS = 4


def reset_peak() -> int:
    """Give freed memory back, forget the peak (Linux), and return the bytes that are held now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most bytes this process has held since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(side: str, options: argparse.Namespace) -> dict[str, int]:
    """What one side takes, in this process."""
    torch.set_num_threads(1)
    space = load_space(options.space)
    data = load_data("digits", max(space.resolutions))
    batch = data.train.take(torch.arange(options.batch))
    supernet = Supernet(space, 10, 1).train()
    store = sum(tensor.nbytes for tensor in supernet.store.values())
    plan_of = training_strategy(options.strategy).plan
    networks = TrainingRecipe().networks
    plans = [plan_of(Draw(space, 0, STEPS + step, 3 * STEPS, networks)) for step in range(STEPS)]
    before = reset_peak()
    if side == "alone":
        for plan in plans:
            stand_alone(supernet.extract(plan.lessons[0].architecture).train(), len(plan.lessons), data, batch)
    else:
        with StepRunner(supernet, data, StepOptions()) as runner:
            for plan in plans:
                supernet.zero_grad(set_to_none=True)
                runner.backward(plan, batch.images, batch.labels)
    return {"bytes": peak() - before, "store": store}


def stand_alone(network: Backbone, times: int, data: DataSplits, batch: ImageSet) -> None:
    """Train one network so many steps."""
    images = data.prepare(batch.images, network.architecture.resolution)
    for _ in range(times):
        network.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), batch.labels).backward()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--strategy", default="sandwich")
    parser.add_argument("--side", choices=("alone", "supernet"), help="measure one side in this process")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options)))
        return
    found = {}
    for side in ("alone", "supernet"):
        command = [sys.executable, __file__, "--side", side, "--space", options.space, "--batch", str(options.batch)]
        lines = subprocess.run([*command, "--strategy", options.strategy], check=True, capture_output=True, text=True).stdout
        found[side] = json.loads(lines)
    alone, store = found["alone"]["bytes"], found["alone"]["store"]
    mine = found["supernet"]["bytes"] + store
    ratio = mine / (alone + store)
    print(
        f"largest alone {alone / 2**20:.0f} MiB, store {store / 2**20:.0f} MiB, supernet with its store {mine / 2**20:.0f} MiB"
    )
    print(f"supernet / (largest alone + store): {ratio:.3f}")
    RESULTS.write_text(
        json.dumps({"ratio": ratio, **found, "options": vars(options), "environment": environment()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
