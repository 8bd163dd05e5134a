"""PyTorch as it is: one kernel after another."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.runtime import register

if TYPE_CHECKING:
    from nas.predictors.target import Target


@register
class Eager:
    """Calls the module under `torch.inference_mode`."""

    name: ClassVar[str] = "eager"
    supports: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    preparation: ClassVar[float] = 0.01

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A call of a copy of the module on the target's device, in its precision."""
        return synchronised(*on_target(model, example, target), target)

    def version(self) -> str:
        """The version of torch."""
        return f"torch {torch.__version__}"


def on_target(model: nn.Module | Path, example: Tensor, target: Target) -> tuple[nn.Module, Tensor]:
    """A copy of the module in evaluation mode, and the example, on the target's device and in its precision."""
    if isinstance(model, Path):
        raise MeasurementError(f"runtime {target.runtime!r} runs modules, not files such as {model}; use onnxruntime")
    moved = copy.deepcopy(model).eval().to(target.device, target.dtype)
    return moved, example.to(target.device, target.dtype)


def synchronised(call: Callable[[Tensor], object], example: Tensor, target: Target) -> Callable[[], object]:
    """`call(example)` without autograd; on a GPU it returns when the work is done, not when it is queued."""

    @torch.inference_mode()
    def run() -> object:
        return call(example)

    if target.device != "cuda":
        return run

    def run_and_wait() -> object:
        out = run()
        torch.cuda.synchronize()
        return out

    return run_and_wait
