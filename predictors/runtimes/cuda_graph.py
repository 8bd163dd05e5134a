"""PyTorch on a GPU, captured once as a CUDA graph and replayed: no kernel waits for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.runtime import register
from nas.predictors.runtimes.eager import on_target
from nas.predictors.tracing import first_cause

if TYPE_CHECKING:
    from nas.predictors.target import Target

WARM_RUNS = 3


@register
class Graph:
    """Captures one run of the module as the CUDA guide of PyTorch describes (warm-up on a side stream, then capture)."""

    name: ClassVar[str] = "graph"
    supports: ClassVar[Mapping[str, tuple[str, ...]]] = {"cuda": ("fp32", "bf16", "fp16")}
    preparation: ClassVar[float] = 0.1

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A replay of the captured run, which returns when the GPU has done it."""
        module, moved = on_target(model, example, target)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.inference_mode():
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(WARM_RUNS):
                        module(moved)
                torch.cuda.current_stream().wait_stream(side)
                with torch.cuda.graph(graph):
                    out = module(moved)
        except RuntimeError as error:
            raise MeasurementError(
                f"the network cannot be captured as a CUDA graph: {first_cause(error)}; try eager"
            ) from error

        def run() -> object:
            graph.replay()
            torch.cuda.synchronize()
            return out

        return run

    def version(self) -> str:
        """The version of torch."""
        return f"torch {torch.__version__} (CUDA graph)"
