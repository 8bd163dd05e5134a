"""How much memory a training step of the supernet takes, against the largest network standing alone plus the store.

    python benchmarks/supernet_memory.py [--space tiny] [--batch 64] [--strategy sandwich]

Supernet: the store, its gradients and some steps of the strategy, whose networks are computed in turn. Alone: the first
networks of those steps, the largest, each extracted, with its gradients, and trained as many steps as the supernet's had
networks. Neither has an optimiser. Each figure is of a process of its own, less what it holds before the first step:

- `tensors`: the most bytes that tensors hold at once, as PyTorch's allocator reports them; the same on every machine;
- `resident`: the most that the process holds, as `nas train` runs it. Beside tensors these are the holes between them: oneDNN
  remembers a primitive for each shape of each convolution, a supernet meets many, and each that stays behind in the heap keeps
  the large tensors of later networks from the space around it (`nas.supernet.primitives`);
- `unbounded`: the same where oneDNN remembers a thousand, as it does by itself.

Writes benchmarks/results/supernet_memory.json.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from nas.predictors.environment import environment
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.presets import load_space
from nas.supernet.data import DataSplits, load_data
from nas.supernet.data.base import ImageSet
from nas.supernet.primitives import CAPACITY, REMEMBERED
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Draw, training_strategy
from nas.supernet.supernet import Supernet

RESULTS = Path(__file__).parent / "results" / "supernet_memory.json"
STEPS = 4
COUNTS: dict[str, dict[str, str]] = {"tensors": {}, "resident": {CAPACITY: str(REMEMBERED)}, "unbounded": {CAPACITY: "1024"}}
"""What is counted, and the environment of the process that does."""


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


def peak_of_tensors(work: Callable[[], None]) -> int:
    """The most bytes that tensors which `work` makes hold at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    assert found.profiler is not None
    assert found.profiler.kineto_results is not None
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = (event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(itertools.accumulate(sizes, initial=0))


def peak_of_process(work: Callable[[], None]) -> int:
    """The most bytes that the process holds during `work`, less those before it."""
    before = reset_peak()
    work()
    return peak() - before


def measure(side: str, count: str, options: argparse.Namespace) -> dict[str, int]:
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

    def work() -> None:
        if side == "alone":
            for plan in plans:
                stand_alone(supernet.extract(plan.lessons[0].architecture).train(), len(plan.lessons), data, batch)
            return
        with StepRunner(supernet, data, StepOptions()) as runner:
            for plan in plans:
                supernet.zero_grad(set_to_none=True)
                runner.backward(plan, batch.images, batch.labels)

    return {"bytes": (peak_of_tensors if count == "tensors" else peak_of_process)(work), "store": store}


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
    parser.add_argument("--count", choices=tuple(COUNTS), default="resident", help="what to measure there")
    options = parser.parse_args()
    if options.side:
        print(json.dumps(measure(options.side, options.count, options)))
        return
    ratios, found = {}, {}
    for count in COUNTS:
        found[count] = {side: measured_apart(side, count, options) for side in ("alone", "supernet")}
        alone, store = found[count]["alone"]["bytes"], found[count]["alone"]["store"]
        mine = found[count]["supernet"]["bytes"] + store
        ratios[count] = mine / (alone + store)
        amounts = (
            f"largest alone {alone / 2**20:.0f} MiB, store {store / 2**20:.0f} MiB, supernet and store {mine / 2**20:.0f} MiB"
        )
        print(f"{count:10} {amounts}: {ratios[count]:.3f}", flush=True)
    written = {"ratios": ratios, **found, "options": vars(options), "environment": environment()}
    RESULTS.write_text(json.dumps(written, indent=1) + "\n")


def measured_apart(side: str, count: str, options: argparse.Namespace) -> dict[str, int]:
    """What one side takes, in a process of its own."""
    given = {"side": side, "count": count, "space": options.space, "batch": options.batch, "strategy": options.strategy}
    command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in given.items())]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | COUNTS[count]).stdout
    return dict(json.loads(lines.strip().splitlines()[-1]))


if __name__ == "__main__":
    main()
