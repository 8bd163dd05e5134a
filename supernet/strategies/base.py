"""What a training strategy says about a step, and the registry of strategies.

A strategy is a function of the step's number alone (`Draw`), so that a resumed training, and every worker of a parallel one,
trains the same networks without sending anything.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from nas.errors import UsageError
from nas.plugins import discover, lookup
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One network's part in a step.

    Its loss is `labels` times the cross-entropy with the labels, plus `distil` times the `distance` (a name in
    `nas.supernet.distillation`) to the predictions of the network at index `teacher` of the same step, which stands earlier
    and sees the same images. `rows` are the first and the end of the part of the batch that it sees, as shares; gradients
    count `weight` times.
    """

    architecture: Architecture
    labels: float = 1.0
    teacher: int | None = None
    distil: float = 0.0
    distance: str = "soft"
    rows: tuple[float, float] = (0.0, 1.0)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The lessons of a step, and whether the first network gives way where its gradient opposes the others' (`project`)."""

    lessons: tuple[Lesson, ...]
    project: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """What a strategy may know: the space, the seed, the step of how many, and how many networks a step should train."""

    space: SearchSpace
    seed: int
    step: int
    steps: int
    networks: int

    def rng(self, purpose: str) -> random.Random:
        """Random numbers that depend on seed, step and purpose alone."""
        return random.Random(f"{purpose}:{self.seed}:{self.step}")

    @property
    def progress(self) -> float:
        """The share of the training that lies behind, 0 at the first step and below 1 at the last."""
        return self.step / max(1, self.steps)


Plan = Callable[[Draw], StepPlan]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training with a learning-rate schedule of its own, warm-up and decay to zero.

    It `begins` at a share of the training; its peak is `rate` times the recipe's; `reorder` puts the store's channels in order
    of importance before its first step. Raises UsageError for a number outside its range.
    """

    begins: float = 0.0
    rate: float = 1.0
    reorder: bool = False

    def __post_init__(self) -> None:
        """See the class."""
        if not 0.0 <= self.begins < 1.0:
            raise UsageError(f"a phase of a training strategy begins between 0 and 1, not at {self.begins}")
        if not (math.isfinite(self.rate) and self.rate > 0.0):
            raise UsageError(f"the rate of a phase of a training strategy must be above 0, got {self.rate}")

    def first_step(self, steps: int) -> int:
        """The first step of the phase in a training of so many."""
        return math.ceil(self.begins * steps)


@dataclass(frozen=True, slots=True)
class TrainingStrategy:
    """A registered strategy: its plan of a step, the paper behind it, the phases of the training in order, of which the first
    begins at 0, and whether the networks of a step share a batch out. Raises UsageError for phases in another order.
    """

    name: str
    plan: Plan
    cite: str
    phases: tuple[Phase, ...] = (Phase(),)
    splits: bool = False

    def __post_init__(self) -> None:
        """See the class."""
        begins = [phase.begins for phase in self.phases]
        if begins[:1] != [0.0] or begins != sorted(set(begins)):
            raise UsageError(f"the phases of training strategy {self.name} begin at {begins}, not at 0 and ever later")


_STRATEGIES: dict[str, TrainingStrategy] = {}


def register(
    name: str, *, cite: str, phases: tuple[Phase, ...] = (Phase(),), splits: bool = False
) -> Callable[[Plan], Plan]:  # fmt: skip
    """Announce a function from a `Draw` to a `StepPlan` as `--strategy name`."""

    def announce(plan: Plan) -> Plan:
        _STRATEGIES[name] = TrainingStrategy(name, plan, cite, phases, splits)
        return plan

    return announce


@cache
def _discover() -> None:
    discover("nas.supernet.strategies", "nas.training_strategies")


def strategy_names() -> list[str]:
    """The registered strategies."""
    _discover()
    return sorted(_STRATEGIES)


def training_strategy(name: str) -> TrainingStrategy:
    """The strategy of that name. Raises UnknownNameError, with the nearest one."""
    _discover()
    return lookup("training strategy", name, _STRATEGIES)
