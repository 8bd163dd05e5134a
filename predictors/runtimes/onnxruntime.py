"""ONNX Runtime on the CPU, from the file that is delivered."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.runtime import register

if TYPE_CHECKING:
    from nas.predictors.target import Target


@register
class OnnxRuntime:
    """Exports the module (`torch.onnx.export(dynamo=True)`) and runs the file with all graph optimisations, sequentially."""

    name: ClassVar[str] = "onnxruntime"
    supports: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32",)}
    preparation: ClassVar[float] = 1.5

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A run of an inference session on the module's export, or on the file that is given."""
        if isinstance(model, Path):
            return self._session(model, example, target)
        with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
            path = Path(folder) / "model.onnx"
            with _quiet(), torch.no_grad():
                try:
                    torch.onnx.export(copy.deepcopy(model).eval().cpu(), (example,), path, dynamo=True, external_data=False)
                except Exception as error:
                    raise MeasurementError(f"the network cannot be exported to ONNX: {_cause(error)}; try eager") from error
            return self._session(path, example, target)

    def version(self) -> str:
        """The version of ONNX Runtime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def _session(self, path: Path, example: Tensor, target: Target) -> Callable[[], object]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = target.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise MeasurementError(f"ONNX Runtime cannot load {path.name}: {_cause(error)}; export it again") from error
        feed = {session.get_inputs()[0].name: example.detach().cpu().numpy()}
        return lambda: session.run(None, feed)


def _cause(error: BaseException) -> str:
    """The first line of the error that the others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress lines and advice, which belong to no user of this program."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
