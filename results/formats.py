"""The files made of a traced network, ONNX and torch.export: writing them, running them, comparing their logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nas.errors import FileError
from nas.predictors.tracing import Traced, first_cause, onnx_model, quiet, trace_static

TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Form:
    """In which ways a traced network is written to a file, the quickest first, and how a file is opened: as a function from
    images to logits."""

    ways: tuple[Callable[[ExportedProgram, Path], None], ...]
    open: Callable[[Path], Callable[[Tensor], Tensor]]


def write_traced(form: Form, model: nn.Module, traced: Traced, path: Path, image: Tensor, logits: Tensor) -> tuple[float, bool]:
    """Write the ONNX or the torch.export file for any batch size, or where that fails for one image, and check it.

    Gives the relative difference, and whether the file takes any batch size. Raises FileError where no way leads to a file
    that agrees with the network: why the last one did not.
    """

    def programs() -> Iterator[tuple[ExportedProgram, bool]]:
        yield traced.program, traced.any_batch
        if traced.any_batch:
            # Some operations exist for fixed shapes only; the fixed form is checked just as hard.
            yield trace_static(model, image[:1]), False

    refusal: FileError | None = None
    for program, any_batch in programs():
        for write in form.ways:
            try:
                write(program, path)
                return _difference(form.open(path), path.name, image, logits, any_batch=any_batch), any_batch
            except FileError as error:
                path.unlink(missing_ok=True)
                refusal = error
    assert refusal is not None, "there is a way to write every form"
    raise refusal


def _difference(run: Callable[[Tensor], Tensor], file: str, image: Tensor, logits: Tensor, *, any_batch: bool) -> float:
    """The relative difference of what a file gives for all images at once and for the first alone, or for one after another.
    Raises FileError."""
    if any_batch:
        outputs, wanted = torch.cat([run(image), run(image[:1])]), torch.cat([logits, logits[:1]])
    else:
        outputs, wanted = torch.cat([run(image[i : i + 1]) for i in range(len(image))]), logits
    return relative_difference(file, outputs, wanted, TOLERANCE)


def relative_difference(file: str, found: Tensor, wanted: Tensor, tolerance: float) -> float:
    """The relative difference. Raises FileError where it is above the tolerance or the logits are of another shape."""
    if found.shape != wanted.shape:
        raise FileError(f"{file} gives logits {tuple(found.shape)}, the network {tuple(wanted.shape)}; nothing was exported")
    difference = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(torch.finfo(wanted.dtype).tiny))
    if not difference <= tolerance:
        raise FileError(
            f"{file} differs from the network by {difference:.2g} of the largest logit, above {tolerance:g}; "
            "nothing was exported"
        )
    return difference


def _write_onnx(program: ExportedProgram, path: Path) -> None:
    with quiet():
        onnx_model(program).save(path, external_data=False)


def _write_onnx_divided(program: ExportedProgram, path: Path) -> None:
    with quiet():
        onnx_model(program, divided=True).save(path, external_data=False)


def _open_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with _running(path, "onnx"):
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(image: Tensor) -> Tensor:
        with _running(path, "onnx"):
            return torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    return run


def _write_torch(program: ExportedProgram, path: Path) -> None:
    with quiet():
        torch.export.save(program, path)


def _open_torch(path: Path) -> Callable[[Tensor], Tensor]:
    with _running(path, "torch"), quiet():
        module = torch.export.load(path).module()

    def run(image: Tensor) -> Tensor:
        with _running(path, "torch"), quiet(), torch.no_grad():
            logits: Tensor = module(image)
        return logits

    return run


@contextmanager
def _running(path: Path, form: str) -> Iterator[None]:
    """Whatever a runtime raises for a file is a fault of that file."""
    try:
        yield
    except Exception as error:
        raise FileError(f"{path.name} does not run: {first_cause(error)}; leave out {form!r}") from error


TRACED = {"onnx": Form((_write_onnx, _write_onnx_divided), _open_onnx), "torch": Form((_write_torch,), _open_torch)}
