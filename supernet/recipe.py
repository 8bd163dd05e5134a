"""`TrainingRecipe`: how a supernet is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nas.errors import UsageError

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """AdamW with linear warm-up and cosine decay to zero.

    `batch` images a step, of all workers together, in `accumulate` turns; of the networks of a step all but the strategy's
    fixed ones are `random_architectures`. `ema` is the decay of the averaged weights that are kept in the end (0: the last
    weights). `augment` names what images go through, in order. `teacher` is a network to learn from beside the labels, with
    the part `teacher_share` (`nas.supernet.teachers`). `init` is a published network whose weights the store starts from
    (`nas.supernet.pretrained`).
    """

    strategy: str = "sandwich"
    epochs: int = 6
    batch: int = 32
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    gradient_clip: float = 1.0
    label_smoothing: float = 0.1
    random_architectures: int = 2
    accumulate: int = 1
    precision: str = "fp32"
    checkpointing: bool = False
    ema: float = 0.0
    augment: str = "move"
    teacher: str = ""
    teacher_share: float = 0.5
    init: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError for a number outside its range."""
        least = {"epochs": 0, "batch": 1, "random_architectures": 0, "accumulate": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UsageError(f"{name} of the training must be at least {bound}, got {getattr(self, name)}")
        for name in ("ema", "teacher_share", "warmup", "label_smoothing"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UsageError(f"{name} of the training must lie between 0 and 1, got {getattr(self, name)}")
        require_rates(self.learning_rate, self.weight_decay, self.gradient_clip)
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision of the training is one of {', '.join(PRECISIONS)}, got {self.precision!r}")

    @property
    def networks(self) -> int:
        """How many networks a step trains where the strategy leaves it open: the random ones, and two for the corners."""
        return self.random_architectures + 2


def require_rates(learning_rate: float, weight_decay: float, gradient_clip: float) -> None:
    """Raise UsageError where a number of a training would do nothing, undo it, or is none."""
    for name, value in (("learning_rate", learning_rate), ("gradient_clip", gradient_clip)):
        if not (math.isfinite(value) and value > 0.0):
            raise UsageError(f"{name} of the training must be above 0, got {value}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise UsageError(f"weight_decay of the training must be 0 or more, got {weight_decay}")
