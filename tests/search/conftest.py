from __future__ import annotations

import random
from collections.abc import Mapping
from types import SimpleNamespace

import pytest

from nas.search import strategy
from nas.search.types import COMPLETE, Budgets, Problem, Trial
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace


def small_space(**fields: object) -> SearchSpace:
    defaults = {
        "name": "small",
        "resolutions": (32,),
        "stems": ("patchify", "conv"),
        "stem_stride": 4,
        "downsamples": ("conv", "average"),
        "norms": ("layer", "rms"),
        "depths": ((1, 2), (1, 2, 3)),
        "widths": ((16, 32), (32, 48, 64)),
        "mixers": (("depthwise_conv", "window_attention"),) * 2,
        "settings": {"kernel": (3, 5), "dilation": (1, 2), "window": (2, 4), "heads": (2, 4)},
    }
    return SearchSpace(**{**defaults, **fields})


def describe(architecture: Architecture) -> Mapping[str, float]:
    work = sum(stage.width * len(stage.blocks) for stage in architecture.stages)
    attention = sum(op.name == "window_attention" for s in architecture.stages for b in s.blocks for op in b.mixers)
    latency = 1e-5 * work + 2e-4 * attention
    return {"latency": latency, "latency_upper": 1.1 * latency, "params": 1e3 * work, "macs": 1e5 * work}


def evaluate(architecture_json: str) -> dict[str, float]:
    architecture = Architecture.from_json(architecture_json)
    noise = random.Random(architecture.digest).random()
    attention = sum(op.name == "window_attention" for s in architecture.stages for b in s.blocks for op in b.mixers)
    return {"accuracy": round(0.5 + 0.05 * attention + 0.02 * architecture.depth + 0.1 * noise, 3), "loss": 1.0 + noise}


def finished(problem: Problem, number: int, architecture: Architecture) -> Trial:
    metrics = {**problem.cheap(architecture), **evaluate(architecture.to_json())}
    return Trial(number, architecture, COMPLETE, metrics)


def advance(problem: Problem, found: strategy.Strategy, first: int, last: int) -> list[Trial]:
    """Ask, evaluate and tell the trials `first` to `last - 1`."""
    trials = []
    for number in range(first, last):
        trials.append(finished(problem, number, found.ask(number)))
        found.tell(trials[-1:])
    return trials


@pytest.fixture
def fake() -> SimpleNamespace:
    return SimpleNamespace(space=small_space, describe=describe, evaluate=evaluate, finished=finished, advance=advance)


@pytest.fixture
def problem() -> Problem:
    return Problem(small_space(), describe, Budgets({"latency": 1.6e-3}), ("accuracy", "latency"))
