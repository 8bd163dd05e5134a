"""`TrainingRecipe`: how a supernet is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from nas.errors import UsageError
from nas.supernet.engine import AUTO, Wish, without_engine
from nas.supernet.sharing import Sharing

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """AdamW with linear warm-up to `learning_rate` and cosine decay to zero, in each of the strategy's phases.

    `batch` images a step, of all workers together, in `accumulate` turns; of the networks of a step all but the strategy's
    fixed ones are `random_architectures`. `ema` is the decay of the averaged weights that are kept in the end (0: the last
    weights). `augment` names what images go through, in order. `teacher` is a network to learn from beside the labels, with
    the part `teacher_share` (`nas.supernet.teachers`). `init` is a published network whose weights the store starts from
    (`nas.supernet.pretrained`). `unshared` names what the store keeps apart (`nas.supernet.sharing`). `memory_format` (auto,
    channels_last, contiguous) is that of the images, and changes the last bits alone (`nas.supernet.engine`): recipes that
    differ in nothing else are equal.
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
    unshared: str = ""
    seed: int = 0
    memory_format: str = field(default=AUTO, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises UsageError for a number outside its range or an unknown word, UnknownNameError for one in `unshared`."""
        object.__setattr__(self, "unshared", str(Sharing.parse(str(self.unshared))))
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
        _ = self.wish

    @property
    def wish(self) -> Wish:
        """How it should compute."""
        return Wish(self.memory_format)

    def decisive(self) -> dict[str, Any]:
        """The fields that decide the weights, but for rounding; `unshared` where it says something: earlier files lack it."""
        found = without_engine(asdict(self))
        return found if self.unshared else {name: value for name, value in found.items() if name != "unshared"}

    @property
    def networks(self) -> int:
        """How many networks a step trains where the strategy leaves it open: the random ones, and two for the corners."""
        return self.random_architectures + 2


def require_rates(learning_rate: float, weight_decay: float, gradient_clip: float, what: str = "training") -> None:
    """Raise UsageError where a number of a training, which is called `what`, would do nothing, undo it, or is none."""
    for name, value in (("learning_rate", learning_rate), ("gradient_clip", gradient_clip)):
        if not (math.isfinite(value) and value > 0.0):
            raise UsageError(f"{name} of the {what} must be above 0, got {value}")
    if not (math.isfinite(weight_decay) and weight_decay >= 0.0):
        raise UsageError(f"weight_decay of the {what} must be 0 or more, got {weight_decay}")
