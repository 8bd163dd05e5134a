"""The divergence guard: what to do when the loss of a training is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nas.errors import NasError

MOST_ROLLBACKS = 3
_MEMORY, _JUMP = 50, 2.0


@dataclass
class DivergenceGuard:
    """Watches the loss of each step, and keeps count of the times that the training went back.

    A loss has diverged where it is not finite, or above `_JUMP` times its running mean and above what guessing costs
    (ln classes) by as much. After each return the learning rate is halved and other networks and images are drawn, or the
    same step would fail again.
    """

    classes: int
    rollbacks: list[dict[str, float]] = field(default_factory=list)
    mean: float = math.nan

    def diverged(self, loss: float) -> bool:
        """Whether this step's loss is lost; else it joins the running mean."""
        guessing = math.log(max(2, self.classes))
        if not math.isfinite(loss) or (loss > _JUMP * self.mean and loss > _JUMP * guessing):
            return True
        self.mean = loss if math.isnan(self.mean) else self.mean + (loss - self.mean) / _MEMORY
        return False

    def roll_back(self, step: int, to: int | None, loss: float, learning_rate: float) -> None:
        """Record a return from one step to another. Raises NasError where there is nowhere to return to, or too often."""
        advice = f"lower the learning rate (now {learning_rate:g}; `training` in config.yaml) and start anew"
        if to is None:
            raise NasError(f"the loss is {loss:.4g} at step {step}, before the first checkpoint: {advice}")
        if len(self.rollbacks) >= MOST_ROLLBACKS:
            raise NasError(f"the loss is {loss:.4g} at step {step} after {MOST_ROLLBACKS} returns to a checkpoint: {advice}")
        self.rollbacks.append({"step": float(step), "to": float(to), "loss": loss if math.isfinite(loss) else -1.0})

    @property
    def factor(self) -> float:
        """What the learning rate is multiplied by."""
        return 0.5 ** len(self.rollbacks)

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"rollbacks": self.rollbacks, "mean": None if math.isnan(self.mean) else self.mean}

    def restore(self, state: dict[str, Any]) -> None:
        """From a checkpoint; returns that were made since it was written stay counted."""
        self.mean = math.nan if state["mean"] is None else float(state["mean"])
        if len(state["rollbacks"]) > len(self.rollbacks):
            self.rollbacks = list(state["rollbacks"])
