"""What sharing weights costs: a training step of the supernet against one of the same network standing alone.

    python benchmarks/supernet_step.py [--space tiny] [--architectures 20] [--batch 64] [--threads 1]

For each random architecture both steps (zero gradients, forward, cross-entropy, backward) are run in turn, A B B A, in one
process; the ratio is that of the medians. The optimiser is left out: a step of the sandwich has one for four networks. Also
checks that both give the same loss to the last bit. Writes benchmarks/results/supernet_step.json.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.predictors.environment import environment
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.presets import load_space
from nas.supernet.supernet import Supernet

RESULTS = Path(__file__).parent / "results" / "supernet_step.json"


def step(module: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Seconds and loss of one step."""
    began = time.perf_counter()
    module.zero_grad(set_to_none=True)
    loss = F.cross_entropy(forward(images), labels)
    loss.backward()
    return time.perf_counter() - began, float(loss.detach())


def compare(supernet: Supernet, architecture: Architecture, images: Tensor, labels: Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of both steps and their ratio."""
    alone = supernet.extract(architecture).train()

    def shared(x: Tensor) -> Tensor:
        return supernet(x, architecture)

    began = time.perf_counter()
    losses = {step(supernet, shared, images, labels)[1], step(alone, alone, images, labels)[1]}
    assert len(losses) == 1, f"{architecture.digest}: losses {losses} differ"
    took = time.perf_counter() - began
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(max(rounds, min(30, int(2.0 / took)))):
        times[0].append(step(supernet, shared, images, labels)[0])
        times[1].append(step(alone, alone, images, labels)[0])
        times[1].append(step(alone, alone, images, labels)[0])
        times[0].append(step(supernet, shared, images, labels)[0])
    mine, its = statistics.median(times[0]), statistics.median(times[1])
    return {"supernet_seconds": mine, "alone_seconds": its, "ratio": mine / its}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", default="tiny")
    parser.add_argument("--architectures", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    space = load_space(options.space)
    supernet = Supernet(space, 10, 3).train()
    rng = random.Random(0)
    labels = torch.arange(options.batch) % 10
    rows = []
    for _ in range(options.architectures):
        architecture = space.sample(rng)
        images = torch.randn(options.batch, 3, architecture.resolution, architecture.resolution)
        rows.append({"digest": architecture.digest, **compare(supernet, architecture, images, labels, options.rounds)})
        print(f"{rows[-1]['digest']}  {rows[-1]['alone_seconds'] * 1e3:8.1f} ms  ratio {rows[-1]['ratio']:.3f}", flush=True)
    ratios = sorted(row["ratio"] for row in rows)
    print(f"median ratio {statistics.median(ratios):.3f} (from {ratios[0]:.3f} to {ratios[-1]:.3f}), {len(rows)} architectures")
    RESULTS.parent.mkdir(exist_ok=True)
    found = {"median": statistics.median(ratios), "options": vars(options), "environment": environment(), "rows": rows}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
