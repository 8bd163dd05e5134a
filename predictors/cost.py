"""Cost of a network: parameters, MACs, activation bytes. Counted by fvcore, with handlers for what it misses.

MACs are the multiply-adds of convolutions, matrix products, attention and Fourier transforms. Norms, activations, pooling,
softmax and other element-wise work count as 0 (fvcore gives norms 1 to 5 a value, which its own documentation calls an
estimate), so that twice the MACs are what `torch.utils.flop_counter` counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
from fvcore.nn import FlopCountAnalysis, jit_handles
from torch import Tensor, nn

from nas.errors import UsageError
from nas.predictors.threads import threads
from nas.search_spaces import graph, layers
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind

BYTES = 4
Handler = Callable[[list[Any], list[Any]], float | Counter[str]]


@dataclass(frozen=True, slots=True)
class Cost:
    """Parameters, multiply-adds of one example, and bytes (fp32) of what convolutions, products and transforms put out.

    The activations follow Radosavovic et al. 2020, arXiv:2003.13678, section 3.1: outputs of what has MACs, nothing else.
    """

    params: int
    macs: int
    activation_bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs, self.activation_bytes + other.activation_bytes)

    def to_mapping(self) -> dict[str, int]:
        """The three numbers by name."""
        return {"params": self.params, "macs": self.macs, "activation_bytes": self.activation_bytes}

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Self:
        """The sum."""
        items = list(costs)
        return cls(
            sum(item.params for item in items), sum(item.macs for item in items), sum(item.activation_bytes for item in items)
        )


def cost(
    what: Architecture | nn.Module, resolution: int | None = None, *, in_channels: int = 3, num_classes: int = 1000
) -> Cost:
    """The cost for one square image of `resolution` (default: the architecture's own).

    An architecture's cost is the sum over its nodes, of which each distinct one is traced once a process. A module is
    traced whole, on a (1, in_channels, resolution, resolution) image. Raises UsageError for a module without a resolution.
    """
    if isinstance(what, Architecture):
        return Cost.total(node_cost(node) for node in nodes(what, resolution, in_channels, num_classes))
    if resolution is None:
        raise UsageError("the cost of a module depends on the image: give a resolution, e.g. cost(model, 224)")
    return module_cost(what, (torch.zeros(1, in_channels, resolution, resolution),))


_CACHE: dict[str, Cost] = {}


def node_cost(node: Node) -> Cost:
    """The cost of one node, remembered by its key. Summed over the nodes of an architecture it is the network's cost."""
    key = node.key
    found = _CACHE.get(key)
    if found is None:
        with threads(1):  # two wait for each other on what is so small
            found = _CACHE[key] = module_cost(module_of(node), node_inputs(node))
    return found


def node_inputs(node: Node) -> tuple[Tensor, ...]:
    """Zeros of the shapes that the node's module reads, for one example."""
    height, width, channels = node.in_shape
    if node.kind == Kind.STEM:
        return (torch.zeros(1, channels, height, width),)
    if node.kind == graph.BRANCH:
        assert node.channels is not None, f"branch {node.name} without channels"
        return (torch.zeros(1, height, width, node.channels[1]),)
    if node.side:
        return tuple(torch.zeros(1, *shape) for shape in ((height, width, channels), *node.side))
    if node.kind == graph.CONCAT:
        return tuple(torch.zeros(1, height, width, part) for part in (channels, channels // 2, channels - channels // 2))
    return (torch.zeros(1, height, width, channels),)


def module_cost(module: nn.Module, inputs: tuple[Tensor, ...]) -> Cost:
    """The cost of any module on the inputs, which belong to one example. The module is left as it was found."""
    training = {child: child.training for child in module.modules()}
    parameter = next(module.parameters(), None)
    if parameter is not None:
        inputs = tuple(tensor.to(parameter.device, parameter.dtype) for tensor in inputs)
    try:
        counts = _count(module.eval(), inputs)
    finally:
        for child, mode in training.items():
            child.training = mode
    params = sum(parameter.numel() for parameter in module.parameters())
    return Cost(params, counts["macs"], BYTES * counts["elements"])


def _count(module: nn.Module, inputs: tuple[Tensor, ...]) -> Counter[str]:
    if isinstance(module, layers.Concat):
        return Counter()
    analysis = FlopCountAnalysis(module, inputs)
    analysis.clear_op_handles()
    analysis.set_op_handle(**{name: _with_elements(handle) for name, handle in _HANDLERS.items()})
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with torch.no_grad():
        return Counter(analysis.by_operator())


def _with_elements(handle: Handler) -> Callable[[list[Any], list[Any]], Counter[str]]:
    """The handler, counting also the elements of the operation's outputs."""

    def counted(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        macs = handle(inputs, outputs)
        total = sum(macs.values()) if isinstance(macs, Counter) else macs
        return Counter(macs=round(total), elements=math.prod(_shape(outputs[0])))

    return counted


def _attention_macs(inputs: list[Any], outputs: list[Any]) -> float:
    """q k^T and the product with v: (..., N, d), (..., M, d), (..., M, e)."""
    query, key, value = (_shape(tensor) for tensor in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _matmul_macs(inputs: list[Any], outputs: list[Any]) -> float:
    """Each output element is a sum over the inner dimension; fvcore's own handle is wrong where the batch is broadcast."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _einsum_macs(inputs: list[Any], outputs: list[Any]) -> float:
    """The product of all index sizes of two operands, 0 where nothing is summed; fvcore rounds it to four digits.

    Three operands or more, and ellipses, are left to fvcore, which finds the best order of contraction.
    """
    equation = inputs[0].toIValue().replace(" ", "")
    operands = equation.split("->")[0].split(",")
    if len(operands) != 2 or "." in equation or "->" not in equation:
        return float(jit_handles.einsum_flop_jit(inputs, outputs))
    shapes = [_shape(tensor) for tensor in inputs[1].node().inputs()]
    sizes = {index: size for term, shape in zip(operands, shapes, strict=True) for index, size in zip(term, shape, strict=True)}
    return math.prod(sizes.values()) if set(sizes) - set(equation.split("->")[1]) else 0


def _baddbmm_macs(inputs: list[Any], outputs: list[Any]) -> float:
    left, right = (_shape(tensor) for tensor in inputs[1:3])
    return math.prod(left) * right[-1]


def _transform_macs(real: bool) -> Handler:
    """2 N log2 N multiply-adds for a complex transform of N points (N/2 log2 N butterflies of 4), half of it for a real one.

    N is the number of points of the map; the larger of input and output is the one that is not halved by symmetry.
    """

    def macs(inputs: list[Any], outputs: list[Any]) -> float:
        full = max((_shape(tensor) for tensor in (inputs[0], outputs[0])), key=math.prod)
        points = math.prod(full[dim] for dim in _integers(inputs[2]) or range(len(full)))
        rows = math.prod(full) / max(points, 1)
        return (1.0 if real else 2.0) * rows * points * math.log2(max(points, 2))

    return macs


def _shape(value: Any) -> list[int]:
    """The shape of a traced tensor."""
    return [int(size) for size in jit_handles.get_shape(value) or []]


def _integers(value: Any) -> list[int]:
    """The integers that a traced argument holds: one, a constant list, or a list built in the graph; [] for None."""
    if value.node().kind() == "prim::ListConstruct":
        return [item.toIValue() for item in value.node().inputs()]
    held = value.toIValue()
    return [held] if isinstance(held, int) else list(held or [])


_HANDLERS: dict[str, Handler] = {
    "aten::_convolution": jit_handles.conv_flop_jit,
    "aten::addmm": jit_handles.addmm_flop_jit,
    "aten::bmm": jit_handles.bmm_flop_jit,
    "aten::einsum": _einsum_macs,
    "aten::linear": jit_handles.linear_flop_jit,
    "aten::matmul": _matmul_macs,
    "aten::mm": _matmul_macs,
    "aten::scaled_dot_product_attention": _attention_macs,
    "aten::baddbmm": _baddbmm_macs,
    **{f"aten::fft_{name}": _transform_macs(True) for name in ("rfft", "irfft", "rfft2", "irfft2", "rfftn", "irfftn")},
    **{f"aten::fft_{name}": _transform_macs(False) for name in ("fft", "ifft", "fft2", "ifft2", "fftn", "ifftn")},
}
