"""A network in pieces: for each node a model of its own, cut out of the graph that ONNX Runtime made of the network.

Such a model holds the kernels of one node, fused and laid out as in the network, and reads what they read there: the values of
one run. It runs without another optimisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import MeasurementError, in_one_line
from nas.predictors.kernel_owners import kernel_owners
from nas.predictors.runtimes.onnxruntime import open_session, session_options
from nas.predictors.target import Target

READY, DONE = "#ready", "#done"
"""Names of a single number that every model passes on: what a call gives back costs no time then."""


@dataclass(frozen=True, slots=True)
class NodeModels:
    """The kernels of an optimised network (`model`, an `onnx.ModelProto`) by node (`groups`), the values that pass between
    nodes in one run of it, by name, and the names of its outputs."""

    model: Any
    groups: tuple[tuple[Any, ...], ...]
    values: Mapping[str, NDArray[Any]]
    outputs: frozenset[str]

    @classmethod
    def cut(cls, optimised: Path, names: Sequence[str], image: NDArray[Any], target: Target) -> Self:
        """The nodes that are called `names` of an optimised file; `image` is what the network reads.

        Raises MeasurementError where the file does not run, or what passes between nodes is no tensor.
        """
        import onnx

        model = onnx.load(optimised)
        source = model.graph.input[0].name
        owned = list(zip(model.graph.node, kernel_owners(model.graph, names), strict=True))
        made = {name: owner for kernel, owner in owned for name in kernel.output}
        passed = sorted({name for kernel, owner in owned for name in kernel.input if made.get(name, owner) != owner})
        outputs = frozenset(item.name for item in model.graph.output)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in passed if name not in outputs)
        values = {source: image, **_values(model, optimised.with_name("passed.onnx"), {source: image}, passed, target)}
        groups = tuple(tuple(kernel for kernel, owner in owned if owner == place) for place in range(len(names)))
        return cls(model, groups, values, outputs)

    def alone(self, place: int | None, copies: int) -> Any:
        """A model of `copies` of one node's kernels, or of nothing, as an `onnx.ModelProto`.

        All copies read the same maps, as a node finds what its predecessor just wrote, and each reads weights of its own, as
        a network reads a weight once a run. Of the first copy the model also gives what is read outside.
        """
        import onnx
        from onnx import helper, numpy_helper

        group = () if place is None else self.groups[place]
        made = {name for kernel in group for name in kernel.output if name}
        read = {name for kernel in group for name in kernel.input if name} - made
        graph = onnx.GraphProto(name="node")
        # Initializers that a call could override cost a call nothing, and no kernel prepares them as it does weights.
        for name in sorted(read & self.values.keys()):
            value = self.values[name]
            graph.input.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
            graph.initializer.append(numpy_helper.from_array(value, name))
        weights = [item for item in self.model.graph.initializer if item.name in read]
        for copy in range(copies):
            own = {name: f"{name}#{copy}" for name in (*made, *(item.name for item in weights))} if copy else {}
            graph.node.extend(_copied(kernel, own, copy) for kernel in group)
            for item in weights:
                graph.initializer.append(item)
                graph.initializer[-1].name = own.get(item.name, item.name)
        graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), READY))
        graph.node.append(helper.make_node("Identity", [READY], [DONE], name=DONE))
        given = made & (self.values.keys() | self.outputs)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in (DONE, *sorted(given)))
        return helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)


def run_of(model: Any, path: Path, target: Target) -> Callable[[], object]:
    """A run of a model of `NodeModels.alone`, which is written to `path`. Raises MeasurementError where it does not load."""
    session = opened(model, path, target)
    return lambda: session.run([DONE], {})


def _values(
    model: Any, path: Path, feed: Mapping[str, NDArray[Any]], names: Sequence[str], target: Target
) -> dict[str, NDArray[Any]]:
    """Some outputs of one run of a model, by name. Raises MeasurementError where it does not run, or one is no tensor."""
    session = opened(model, path, target)
    try:
        found = session.run(names, feed) if names else []
    except Exception as error:  # whatever ONNX Runtime raises
        raise MeasurementError(f"the optimised network does not run: {in_one_line(error)}") from error
    strange = [name for name, value in zip(names, found, strict=True) if not isinstance(value, np.ndarray)]
    if strange:
        raise MeasurementError(f"{strange[0]} passes between nodes and is no tensor, so they cannot be timed alone")
    return dict(zip(names, found, strict=True))


def opened(model: Any, path: Path, target: Target) -> Any:
    """An inference session on a model that is optimised already, which is written to `path`. Raises MeasurementError."""
    import onnxruntime

    options = session_options(target)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    path.write_bytes(model.SerializeToString())
    return open_session(path, options)


def _copied(kernel: Any, own: Mapping[str, str], copy: int) -> Any:
    """A kernel with the values and weights of the `copy`-th copy, whose names are `own`."""
    found = type(kernel)()
    found.CopyFrom(kernel)
    found.name = kernel.name and f"{kernel.name}#{copy}"  # an optimiser leaves some without, and names must differ
    found.input[:] = [own.get(name, name) for name in kernel.input]
    found.output[:] = [own.get(name, name) for name in kernel.output]
    return found
