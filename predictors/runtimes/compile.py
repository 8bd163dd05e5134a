"""`torch.compile`: kernels fused and generated for the network's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.runtime import register
from nas.predictors.runtimes.eager import on_target, synchronised

if TYPE_CHECKING:
    from nas.predictors.target import Target


@register
class Compile:
    """Compiles the module for the example's shapes; compiling takes 5 to 60 s a network."""

    name: ClassVar[str] = "compile"
    supports: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}
    preparation: ClassVar[float] = 20.0

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A call of the compiled copy; compiled here, so that no timed run pays for it."""
        module, moved = on_target(model, example, target)
        # Dynamo keeps a bounded number of compilations per code object, and every candidate shares the same forward.
        torch.compiler.reset()
        run = synchronised(torch.compile(module, dynamic=False), moved, target)
        try:
            run()
        except Exception as error:
            reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
            raise MeasurementError(f"torch.compile failed on {target}: {reason}; try the runtime eager") from error
        return run

    def version(self) -> str:
        """The version of torch."""
        return f"torch {torch.__version__} (inductor)"
