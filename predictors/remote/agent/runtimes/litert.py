"""LiteRT (TensorFlow Lite), for files that were converted to `.tflite` elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError
from nas.predictors.remote.agent.registry import Run, Wanted, register


@register
class LiteRt:
    """Runs `.tflite` files on the CPU by the XNNPACK kernels that the interpreter chooses."""

    name = "litert"

    def version(self) -> str:
        """The version of the interpreter."""
        import ai_edge_litert  # type: ignore[import-not-found, unused-ignore]

        return f"litert {ai_edge_litert.__version__}"

    def prepare(self, content: bytes, example: NDArray[np.float32], wanted: Wanted) -> Run:
        """An invocation of the interpreter on the example."""
        from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found, unused-ignore]

        if wanted.device != "cpu":
            raise MeasurementError(f"litert here runs on cpu, not {wanted.device}")
        interpreter = Interpreter(model_content=content, num_threads=wanted.threads)
        place = interpreter.get_input_details()[0]
        shape = tuple(int(size) for size in place["shape"])
        if shape != example.shape:
            raise MeasurementError(f"the file takes an input of shape {shape}, not {example.shape}")
        interpreter.allocate_tensors()
        interpreter.set_tensor(place["index"], example.astype(place["dtype"]))
        return interpreter.invoke
