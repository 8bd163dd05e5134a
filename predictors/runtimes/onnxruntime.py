"""ONNX Runtime on the CPU, from the file that is delivered."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from nas.errors import FileError, MeasurementError
from nas.predictors.quantisation import precision_of, quantise
from nas.predictors.runtime import register
from nas.predictors.tracing import BATCH, first_cause, onnx_model, quiet, trace_static

if TYPE_CHECKING:
    from nas.predictors.target import Target


@register
class OnnxRuntime:
    """Exports the module as it is delivered and runs the file with all graph optimisations, sequentially.

    In int8 the file goes through the static quantiser (`nas.predictors.quantisation`). A module is calibrated on the example,
    which is enough for its time; a file must have been quantised already.
    """

    name: ClassVar[str] = "onnxruntime"
    supports: ClassVar[Mapping[str, tuple[str, ...]]] = {"cpu": ("fp32", "int8")}
    preparation: ClassVar[float] = 1.5

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Callable[[], object]:
        """A run of an inference session on the module's export, or on the file that is given."""
        with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
            return self._session(onnx_file(model, example, target, Path(folder)), example, target)

    def version(self) -> str:
        """The version of ONNX Runtime."""
        import onnxruntime

        return f"onnxruntime {onnxruntime.__version__}"

    def _session(self, path: Path, example: Tensor, target: Target) -> Callable[[], object]:
        session = open_session(path, session_options(target))
        feed = {session.get_inputs()[0].name: example.detach().cpu().numpy()}
        return lambda: session.run(None, feed)


def onnx_file(model: nn.Module | Path, example: Tensor, target: Target, folder: Path) -> Path:
    """The file that is given, or the export of a module, which is written to `folder`: int8, or fp32 for every other precision,
    to which a runtime that has it converts the file itself.

    Raises MeasurementError where the module cannot be exported, or the file is of another precision.
    """
    if isinstance(model, Path):
        _require_precision(model, target)
        return model
    path, quantised = folder / "model.onnx", folder / "model.int8.onnx"
    # Other devices and the quantiser rely on what the exporter simplifies.
    here = (target.device, target.runtime, target.precision, target.place) == ("cpu", OnnxRuntime.name, "fp32", "")
    exported(model, example, path, light=here)
    if target.precision != "int8":
        return path
    try:
        quantise(path, quantised, example)
    except FileError as error:
        raise MeasurementError(f"the network cannot be quantised: {error}") from error
    return quantised


def exported(model: nn.Module, example: Tensor, path: Path, *, light: bool = False) -> None:
    """Write a module as it is delivered, but with scoped names, and with `light` only so far simplified that ONNX Runtime makes
    the same kernels of it. Raises MeasurementError where it cannot be exported."""
    try:
        program = onnx_model(trace_static(copy.deepcopy(model).eval().cpu(), example), scoped=True, light=light)
        with quiet():
            program.save(path, external_data=False)
    except FileError as error:
        raise MeasurementError(f"the network cannot be exported to ONNX: {error}") from error


def session_options(target: Target) -> Any:
    """The options of an inference session on a target."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # A delivered file takes any batch size; fixed to the target's it runs as fast as one made for that size.
    options.add_free_dimension_override_by_name(BATCH, target.batch)
    return options


def open_session(path: Path, options: Any) -> Any:
    """An inference session on a file. Raises MeasurementError where ONNX Runtime cannot load it."""
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise MeasurementError(f"ONNX Runtime cannot load {path.name}: {first_cause(error)}; export it again") from error


def _require_precision(path: Path, target: Target) -> None:
    """Raise MeasurementError where a file is of another precision than the target: its time would be told as another's."""
    try:
        found = precision_of(path)
    except FileError as error:
        raise MeasurementError(f"ONNX Runtime cannot load {path.name}: {error}") from error
    needed = "int8" if target.precision == "int8" else "fp32"
    if found != needed:
        raise MeasurementError(
            f"{path.name} is {found}, and target {target} asks for {target.precision}; give the {needed} file"
        )
