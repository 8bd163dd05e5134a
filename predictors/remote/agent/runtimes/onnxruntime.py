"""ONNX Runtime, with the execution provider that is named like the device: cpu, cuda, xnnpack, nnapi, coreml, qnn ..."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError
from nas.predictors.remote.agent.registry import Run, Wanted, register

PRECISIONS = ("fp32", "int8")
BATCH = "batch"


@register
class OnnxRuntimeHere:
    """Runs ONNX files with all graph optimisations, one operator after another. The file says in which precision."""

    name = "onnxruntime"

    def version(self) -> str:
        """The version of ONNX Runtime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def prepare(self, content: bytes, example: NDArray[np.float32], wanted: Wanted) -> Run:
        """A run of a session with the target's threads; its batch is fixed, as in an application."""
        import onnxruntime

        if wanted.precision not in PRECISIONS:
            raise MeasurementError(
                f"onnxruntime runs files as they are, in {' or '.join(PRECISIONS)}, and converts none to {wanted.precision}; "
                "take one of these precisions, or a runtime that converts"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = wanted.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
        options.add_free_dimension_override_by_name(BATCH, example.shape[0])
        session: Any = onnxruntime.InferenceSession(content, options, providers=self._providers(wanted.device))
        feed = {session.get_inputs()[0].name: example}
        return lambda: session.run(None, feed)

    def _providers(self, device: str) -> list[str]:
        """The device's provider, and the CPU for what it does not take. Raises MeasurementError where there is none."""
        import onnxruntime

        known = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
        if device not in known:
            raise MeasurementError(f"onnxruntime here has no device {device!r}; it has {', '.join(sorted(known))}")
        return list(dict.fromkeys((known[device], "CPUExecutionProvider")))
