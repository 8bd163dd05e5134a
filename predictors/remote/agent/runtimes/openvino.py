"""OpenVINO, which reads ONNX files as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nas.predictors.remote.agent.registry import Run, Wanted, register

HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


@register
class OpenVino:
    """Compiles the network for one of OpenVINO's devices: cpu, gpu, npu."""

    name = "openvino"

    def version(self) -> str:
        """The version of OpenVINO."""
        import openvino  # type: ignore[import-not-found, unused-ignore]

        return f"openvino {openvino.__version__}"

    def prepare(self, content: bytes, example: NDArray[np.float32], wanted: Wanted) -> Run:
        """A synchronous inference request, with one stream and the target's threads and precision."""
        import openvino

        core = openvino.Core()
        model = core.read_model(content, b"")
        model.reshape(list(example.shape))
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[wanted.precision]}
        if wanted.device == "cpu":
            settings |= {"INFERENCE_NUM_THREADS": str(wanted.threads), "NUM_STREAMS": "1"}
        request = core.compile_model(model, wanted.device.upper(), settings).create_infer_request()
        return lambda: request.infer([example])
