"""What the memory format of images and torch.compile change in a training step, and how many steps compiling has to be paid by.

    python benchmarks/training_engine.py [--clock cpu] [--formats tiny=12,mobile=4] [--compiled tiny=2]

A step is the forward and backward pass of one random network of a space on random images, by one thread. Both sides run in
turn, A B B A, in one process; a ratio is that of the medians. `formats`: images channels-last against contiguous. `compiled`:
the network compiled against as it is, the processor seconds that compiling takes (compilers it starts included, nothing from a
cache), and the steps after which it is paid back. `supernet`: the same for single nodes, and how often a node, and a largest
network, comes again in the steps of the sandwich rule: each choice of each place is a graph of its own. On a busy machine
`--clock cpu` counts the seconds that this process computes. Writes benchmarks/results/training_engine.json.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ |= {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}

import torch
from torch import Tensor, nn

import nas
from nas.files import to_json
from nas.predictors.environment import environment
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind
from nas.search_spaces.space import SearchSpace
from nas.supernet.engine_trials import Forward, Trial, unchanged
from nas.supernet.layout import CHANNELS_LAST, CONTIGUOUS
from nas.supernet.recipe import TrainingRecipe
from nas.supernet.strategies import Draw, training_strategy

RESULTS = Path(__file__).parent / "results" / "training_engine.json"
CLASSES, SMOOTHING = 10, 0.1
BATCH = {"tiny": 32, "mobile": 8}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Clock = Callable[[], float]


def in_turn(first: Callable[[], None], second: Callable[[], None], rounds: int, clock: Clock) -> tuple[float, float]:
    """Median seconds of each of two steps, run A B B A, each once before."""
    times: tuple[list[float], list[float]] = ([], [])
    first()
    second()
    for _ in range(rounds):
        for side, step in ((0, first), (1, second), (1, second), (0, first)):
            began = clock()
            step()
            times[side].append(clock() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def trial_of(space: SearchSpace, architecture: Architecture) -> Trial:
    """A network of fresh weights on random images at its own resolution."""
    batch, side = BATCH.get(space.name, 8), architecture.resolution
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, side, side), torch.randint(0, CLASSES, (batch,))
    return Trial(nas.build(architecture, CLASSES).train(), lambda: (images, labels), SMOOTHING)


def spent() -> float:
    """Processor seconds of this process and of those it started and waited for."""
    each = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def compare_formats(space: SearchSpace, count: int, rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """One row a network: seconds of a step with contiguous images, and what part of it channels-last ones take."""
    rng, rows = random.Random(0), []
    for architecture in [space.sample(rng) for _ in range(count)]:
        trial = trial_of(space, architecture)
        with unchanged(trial.network):
            contiguous, last = in_turn(
                lambda trial=trial: trial.step(trial.network, CONTIGUOUS),
                lambda trial=trial: trial.step(trial.network, CHANNELS_LAST),
                rounds, clock,
            )  # fmt: skip
        row = {"space": space.name, "digest": architecture.digest, "contiguous_seconds": contiguous, "ratio": last / contiguous}
        print(
            "{space:<7} {digest}  contiguous {contiguous_seconds:.3f} s, channels-last {ratio:.3f} of it".format(**row),
            flush=True,
        )
        rows.append(row)
    return rows


def compare_compiled(space: SearchSpace, count: int, rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """One row a network: seconds of a step as it is, what part the compiled one takes, seconds to compile, steps to pay it."""
    rng, rows = random.Random(1), []
    for architecture in [space.sample(rng) for _ in range(count)]:
        trial = trial_of(space, architecture)
        with unchanged(trial.network):
            row = _compiled(trial.network, lambda forward, trial=trial: trial.step(forward, CHANNELS_LAST), rounds, clock)
        tensors = len(trial.parameters)
        rows.append({"space": space.name, "digest": architecture.digest, "parameters": tensors, **row})
        print(f"{space.name:<7} {architecture.digest}  {told(row)}, {tensors} parameters", flush=True)
    return rows


def _compiled(network: nn.Module, step: Callable[[Forward], None], rounds: int, clock: Clock) -> dict[str, float]:
    torch.compiler.reset()
    forward = torch.compile(network, dynamic=False)
    before = spent()
    step(forward)
    compiling = spent() - before
    plain, fast = in_turn(lambda: step(network), lambda: step(forward), rounds, clock)
    steps = compiling / (plain - fast) if fast < plain else math.inf
    return {"plain_seconds": plain, "ratio": fast / plain, "compile_seconds": compiling, "steps_to_pay": steps}


def told(row: dict[str, float]) -> str:
    """A row in words."""
    return (
        f"{row['plain_seconds'] * 1000:.1f} ms, compiled {row['ratio']:.3f} of it, after {row['compile_seconds']:.1f} s; "
        f"paid by {row['steps_to_pay']:.0f} steps"
    )


def drawn(space: SearchSpace, steps: int) -> Iterable[list[Architecture]]:
    """The networks of each step of the sandwich rule, the largest first."""
    recipe = TrainingRecipe()
    for step in range(steps):
        plan = training_strategy("sandwich").plan(Draw(space, 0, step, steps, recipe.networks))
        yield [lesson.architecture for lesson in plan.lessons]


def compare_nodes(space: SearchSpace, steps: int, count: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """How often graphs come again in so many steps, and what compiling the nodes that come most often gives."""
    largest: Counter[str] = Counter()
    uses: Counter[str] = Counter()
    known: dict[str, Node] = {}
    for networks in drawn(space, steps):
        largest[networks[0].digest] += 1
        for node in (node for each in networks for node in nodes(each, None, 3, CLASSES) if len(node.inputs) == 1):
            uses[node.key] += 1
            known[node.key] = node
    rows = []
    mixers = [key for key, _ in uses.most_common() if known[key].kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]
    for key in mixers[:count]:
        torch.manual_seed(0)
        node, module = known[key], module_of(known[key]).train()
        image = torch.randn(BATCH.get(space.name, 8), *node.in_shape)
        example = (image.permute(0, 3, 1, 2) if node.kind == "stem" else image).requires_grad_()
        step = _node_step(module, example)
        rows.append({"operator": node.operator, "uses": uses[key], **_compiled(module, step, rounds, clock)})
        print(f"{space.name:<7} {node.operator:<20} used {uses[key]} times: {told(rows[-1])}", flush=True)
    repeats = {"steps": steps, "networks": sum(map(len, drawn(space, steps))), "distinct_largest": len(largest)}
    return {"space": space.name, **repeats, "distinct_nodes": len(uses), "mean_uses": uses.total() / len(uses), "nodes": rows}


def _node_step(module: nn.Module, example: Tensor) -> Callable[[Forward], None]:
    leaves = [example, *module.parameters()]

    def step(forward: Forward) -> None:
        torch.autograd.grad(forward(example).square().sum(), leaves, allow_unused=True)

    return step


def counts(text: str) -> dict[str, int]:
    """`tiny=3,mobile=1` as a dictionary."""
    return {name: int(count) for name, _, count in (part.partition("=") for part in text.split(",") if part)}


def median(rows: list[dict[str, Any]], space: str) -> dict[str, float]:
    """Of the ratios of a space: the median, the least, the most."""
    ratios = [row["ratio"] for row in rows if row["space"] == space]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--formats", default="tiny=12,mobile=4", help="how many networks of which spaces")
    parser.add_argument("--compiled", default="tiny=2")
    parser.add_argument("--supernet", default="tiny=4", help="how many nodes of which spaces are compiled")
    parser.add_argument("--steps", type=int, default=400, help="steps of the sandwich rule that are counted")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    options = parser.parse_args()
    torch.set_num_threads(1)
    clock = CLOCKS[options.clock]
    found: dict[str, Any] = {"options": vars(options), "environment": environment(), "batch": BATCH}
    for name, compare in (("formats", compare_formats), ("compiled", compare_compiled)):
        asked = counts(getattr(options, name))
        rows = [row for space, count in asked.items() for row in compare(nas.load_space(space), count, options.rounds, clock)]
        found[name] = {"medians": {space: median(rows, space) for space in asked}, "rows": rows}
        for space, ratios in found[name]["medians"].items():
            print("{}, {}: median {median:.3f}, {least:.3f} to {most:.3f}".format(name, space, **ratios))
    found["supernet"] = [
        compare_nodes(nas.load_space(space), options.steps, count, options.rounds, clock)
        for space, count in counts(options.supernet).items()
    ]
    for each in found["supernet"]:
        print("{space}: {distinct_largest} largest networks in {steps} steps, each node {mean_uses:.1f} times".format(**each))
    RESULTS.write_text(to_json(found) + "\n")


if __name__ == "__main__":
    main()
