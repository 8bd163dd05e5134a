"""What sharing weights costs: a training step of the supernet against one of the same network standing alone.

    python benchmarks/supernet_step.py [--space tiny] [--architectures 24] [--batch 64] [--threads 1] [--clock cpu]

A step zeroes the gradients, computes the loss and its gradients, clips them and lets AdamW move the weights. For each random
architecture both steps are run in turn, A B B A, in one process, and the ratio is that of the medians; once as every step of
a training meets it, a network that the supernet has not seen (`new`: of the first step alone, after as many other networks
as `--seen`), and once for a network that it trains again (`again`). The losses must be equal to the last bit. On a
busy machine `--clock cpu` counts the seconds that this process computes, not those that it waits for a core. Writes
benchmarks/results/supernet_step.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from nas.predictors.environment import environment
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.presets import load_space
from nas.supernet.data import DataSplits, load_data
from nas.supernet.schedule import adamw
from nas.supernet.step import StepOptions, StepRunner
from nas.supernet.strategies import Lesson, StepPlan
from nas.supernet.supernet import Supernet

RESULTS = Path(__file__).parent / "results" / "supernet_step.json"
SMOOTHING, CLIP = 0.1, 1.0
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Step = Callable[[], float]


def shared_step(supernet: Supernet, runner: StepRunner, images: Tensor, labels: Tensor) -> Callable[[Architecture], float]:
    """A function that trains an architecture for one step in the supernet and returns its loss."""
    optimizer = adamw(supernet, 0.0, 0.0, (0.9, 0.99))

    def step(architecture: Architecture) -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = runner.backward(StepPlan((Lesson(architecture=architecture),)), images, labels)
        torch.nn.utils.clip_grad_norm_(supernet.parameters(), CLIP, foreach=True)
        optimizer.step()
        return loss

    return step


def alone_step(supernet: Supernet, data: DataSplits, architecture: Architecture, images: Tensor, labels: Tensor) -> Step:
    """A function that trains the extracted network for one step and returns its loss."""
    network = supernet.extract(architecture).train()
    optimizer = adamw(network, 0.0, 0.0, (0.9, 0.99))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        logits = network(data.prepare(images, architecture.resolution))
        loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP, foreach=True)
        optimizer.step()
        return float(loss.detach())

    return step


def timed(step: Step, clock: Step) -> tuple[float, float]:
    """Seconds, and what the step returns."""
    began = clock()
    loss = step()
    return clock() - began, loss


def compare(shared: Step, alone: Step, rounds: int, clock: Step) -> dict[str, float]:
    """Ratios of one architecture: `new` by the first step in the supernet, `again` by the medians of all later ones.

    The rate of both optimisers is zero, so that all steps start from the same weights.
    """
    first, loss = timed(shared, clock)
    assert loss == timed(alone, clock)[1], "the losses differ"
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, step in ((0, shared), (1, alone), (1, alone), (0, shared)):
            times[side].append(timed(step, clock)[0])
    mine, its = map(statistics.median, times)
    return {"alone_seconds": its, "again": mine / its, "new": first / its}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--architectures", type=int, default=24)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seen", type=int, default=200, help="networks that the supernet has trained before")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rng, space = random.Random(0), load_space(options.space)
    supernet = Supernet(space, 10, 1).train()
    data = load_data("digits", max(space.resolutions))
    batch = data.train.take(torch.arange(options.batch))
    for _ in range(options.seen):
        supernet.cuts(space.sample(rng))
    rows = []
    with StepRunner(supernet, data, StepOptions(label_smoothing=SMOOTHING)) as runner:
        step = shared_step(supernet, runner, batch.images, batch.labels)
        step(space.largest(rng))
        for _ in range(options.architectures):
            one = space.sample(rng)
            alone = alone_step(supernet, data, one, batch.images, batch.labels)
            alone()
            ratios = compare(partial(step, one), alone, options.rounds, CLOCKS[options.clock])
            rows.append({"digest": one.digest, **ratios})
            print("{digest}  {alone_seconds:7.3f} s  again {again:.3f}  new {new:.3f}".format(**rows[-1]), flush=True)
    medians = {name: statistics.median(row[name] for row in rows) for name in ("again", "new")}
    print(f"median of {len(rows)} architectures: again {medians['again']:.3f}, new {medians['new']:.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"medians": medians, "options": vars(options), "environment": environment(), "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
