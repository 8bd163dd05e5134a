"""One traced graph of a network, and the ONNX model made of it."""

from __future__ import annotations

import contextlib
import copy
import functools
import importlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from nas.errors import FileError
from nas.predictors.light_export import lighten
from nas.predictors.translations import TRANSLATIONS, UNDIVIDED

BATCH, SCOPED = "batch", "/"
SCOPES = "pkg.torch.onnx.name_scopes"
REGISTRATION = "torch.onnx._internal.exporter._registration"
"""Where the exporter asks for its translations."""
UNTOLD = "do_not_emit_stack_traces"
"""The setting of `torch.fx.config` by which operations are traced without the lines of code that they came from."""
_NOISY = ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")


@dataclass(frozen=True, slots=True)
class Traced:
    """The graph of a network and whether its batch size is free; else it is that of the traced example."""

    program: ExportedProgram
    any_batch: bool


def trace(model: nn.Module, image: Tensor) -> Traced:
    """The graph of a network in evaluation mode, with a free batch size where the network allows it.

    `image` is one example, (1, C, H, W). Raises FileError where the network cannot be traced at all.
    """
    try:
        return Traced(_trace(model, image.expand(2, -1, -1, -1), any_batch=True), any_batch=True)
    except Exception:
        # A mixer may need the batch size as a number; the error of the second attempt tells where both fail.
        return Traced(trace_static(model, image), any_batch=False)


def trace_static(model: nn.Module, image: Tensor) -> ExportedProgram:
    """The graph for the shape of `image` alone. Raises FileError."""
    try:
        return _trace(model, image, any_batch=False)
    except Exception as error:
        raise FileError(f"torch.export cannot trace the network: {first_cause(error)}; leave out 'onnx' and 'torch'") from error


def onnx_model(program: ExportedProgram, *, scoped: bool = False, light: bool = False, divided: bool = False) -> Any:
    """The `torch.onnx.ONNXProgram` of a traced network: input `image`, output `logits`, a free batch size named `batch`.

    With `scoped` the names of its kernels and values begin with that of the backbone's node that they belong to (`scope_of`).
    With `light` it is simplified only as far as ONNX Runtime needs it (`nas.predictors.light_export`), in less time.
    Operations are translated as they were traced; with `divided`, and where that fails, they are divided into smaller ones
    before. The program stays as it is. Raises FileError where an operation has no ONNX counterpart.
    """
    try:
        found = (None if divided else _as_traced(program, light=light)) or _converted(program, TRANSLATIONS, light=light)
    except Exception as error:
        raise FileError(f"the network has no ONNX form: {first_cause(error)}; leave out 'onnx'") from error
    if scoped:
        _scope(found.model)
    _tidy(found.model)
    return found


def _converted(program: ExportedProgram, table: Mapping[Any, Callable[..., Any]], *, light: bool) -> Any:
    """The exporter's `ONNXProgram`, its operations translated by the table where that has them. May raise anything."""
    with quiet(), torch.no_grad(), _listed_once():
        found: Any = torch.onnx.export(
            program,
            dynamo=True,
            optimize=not light,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            custom_translation_table=dict(table),
        )
        if light:
            lighten(found.model)
    return found


def _as_traced(program: ExportedProgram, *, light: bool) -> Any:
    """The `ONNXProgram` of the operations as they were traced; None where one of them has no translation, or writes into what
    it reads. Half of an export's time goes to tracing the network anew in smaller operations, of which few are needed."""
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    if any(getattr(target, "_schema", None) is not None and target._schema.is_mutable for target in called):
        return None
    whole: Any = copy.copy(program)
    # The exporter writes into the graph that it believes to be its own, for it asks for a divided copy first.
    whole._graph_module = torch.fx.GraphModule(program.graph_module, copy.deepcopy(program.graph))
    whole.run_decompositions = lambda table: whole
    try:
        return _converted(whole, {**TRANSLATIONS, **UNDIVIDED}, light=light)
    except Exception:  # whatever the exporter raises: divided into smaller operations the network may have a form
        return None


@contextlib.contextmanager
def _listed_once() -> Iterator[None]:
    """With the exporter's own translations listed once a process: it reads the sources of some 500 functions for it, a sixth of
    an export's time, for every network anew."""
    try:
        apis: Any = importlib.import_module(REGISTRATION).onnxscript_apis
        listed = apis.get_torchlib_ops
    except (ImportError, AttributeError):  # another release may list them another way
        yield
        return
    apis.get_torchlib_ops = _once(listed)
    try:
        yield
    finally:
        apis.get_torchlib_ops = listed


@functools.cache
def _once(listing: Callable[[], Any]) -> Callable[[], Any]:
    return functools.cache(listing)


def scope_of(name: str) -> str:
    """The node of the backbone that a name in a scoped model begins with; runtimes keep it where they fuse kernels."""
    return name.partition(SCOPED)[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, log lines and prints of the exporters; errors pass."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def first_cause(error: BaseException) -> str:
    """The first line of the error that the others were raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _trace(model: nn.Module, image: Tensor, *, any_batch: bool) -> ExportedProgram:
    shapes = ({0: torch.export.Dim(BATCH, min=1)},) if any_batch else None
    with quiet(), torch.no_grad(), _untold():
        program = torch.export.export(model, (image.contiguous(),), dynamic_shapes=shapes)
    for node in program.graph.nodes:
        # File names of the machine that exported are nobody else's business.
        node.meta.pop("stack_trace", None)
    return program


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """Without the lines of code that each operation came from, which take a tenth of a trace's time, where PyTorch can."""
    config: Any = getattr(torch.fx, "config", None)
    told = getattr(config, UNTOLD, None)
    if told is None:
        yield
        return
    setattr(config, UNTOLD, True)
    try:
        yield
    finally:
        setattr(config, UNTOLD, told)


def _scope(model: Any) -> None:
    """Put the node of the backbone before the names of kernels and values, but of the network's output."""
    for node in model.graph:
        # The exporter notes the modules that it came through: ['', 'nodes.stem', 'nodes.stem.op', 'conv2d'].
        found = re.search(r"'nodes\.([^.']+)", node.metadata_props.get(SCOPES, ""))
        if found:
            for item in (node, *(value for value in node.outputs if value.name and not value.is_graph_output())):
                item.name = f"{found[1]}{SCOPED}{item.name}"


def _tidy(model: Any) -> None:
    """Name the free dimension `batch`, and drop the notes of the exporter, which name files of this machine."""
    import onnx_ir

    free = model.graph.inputs[0].shape[0]
    for value in (*model.graph.inputs, *(output for node in model.graph for output in node.outputs)):
        for axis, size in enumerate(value.shape or ()):
            if not isinstance(free, int) and size == free:
                value.shape[axis] = onnx_ir.SymbolicDim(BATCH)
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
