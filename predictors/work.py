"""What a module asks of a machine, told by the operations that PyTorch dispatches.

Every operation adds to the amounts of some resources: multiply-adds of each kind of product, numbers moved, copied or
gathered, exponentials, operations started. A time is close to the sum of these amounts, each at a price of its own
(`nas.predictors.roofline`): the roofline model (Williams et al. 2009, doi 10.1145/1498765.1498785) with its phases one after
another, as a runtime runs them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nas.predictors.listening import Listening
from nas.predictors.threads import threads

RESOURCES = (
    "operations",
    "products",
    "convolutions",
    "grouped convolutions",
    "attentions",
    "views",
    "product MACs",
    "batched product MACs",
    "matrices",
    "pointwise MACs",
    "convolution MACs",
    "depthwise MACs",
    "depthwise rows",
    "dilated MACs",
    "grouped MACs",
    "attention MACs",
    "unfused attention MACs",
    "attention matrices",
    "transformed",
    "normed",
    "transcendental",
    "softmax",
    "moved",
    "copied",
    "reordered",
    "pooled",
    "pooled, ragged",
    "gathered",
    "unfolded",
    "unusual",
    "written, 1 MiB",
    "written, 4 MiB",
    "written, 16 MiB",
    "written, 32 MiB",
)
"""All in counts: of started operations, matrices, multiply-adds, or numbers that are read and written. What is pooled of maps
whose channels fill no whole vectors counts again as ragged (`nas.predictors.work_laws`): ONNX Runtime pools them number by
number, 16 x 16 maps of 24 channels in 250 us, of 32 in 15."""
SIZED = {f"written, {mebibytes} MiB": mebibytes << 18 for mebibytes in (1, 4, 16, 32)}
"""Resources that count what an operation writes only where it is more than so many numbers: caches hold no more, or what is
larger is given back at once, so that every page of it is asked of the system anew. Prices tell which of them matter."""
Amounts = dict[str, float]
Shape = tuple[int, ...]

_FREE = {"empty", "arange", "new_empty", "zeros", "ones", "scalar_tensor", "lift_fresh", "full", "new_zeros", "_unsafe_view"}
_COPIES = {
    "clone", "copy_", "cat", "stack", "constant_pad_nd", "repeat", "_to_copy", "roll", "reflection_pad2d", "flip",
    "pixel_shuffle", "pixel_unshuffle", "upsample_nearest2d", "upsample_bilinear2d",
}  # fmt: skip
_GATHERS = {
    "index_select", "gather", "scatter", "index", "scatter_add", "embedding", "sort", "topk", "cumsum", "masked_fill", "where",
}  # fmt: skip
_TRANSCENDENTAL = {
    "gelu", "silu", "sigmoid", "tanh", "exp", "erf", "log", "softplus", "elu", "hardsigmoid", "hardswish", "sin", "cos", "pow",
    "softshrink", "mish",
}  # fmt: skip
_PLAIN = {
    "mul", "add", "sub", "relu", "clamp", "add_", "mul_", "neg", "mean", "sum", "maximum", "minimum", "bitwise_not",
    "bitwise_and", "eq", "abs", "div", "rsqrt", "sqrt", "reciprocal", "addcmul",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One dispatched operation: its plain name, whether it only looks at its input anew, and the tensors around it.

    `kernel` is the window of a pooling, `groups` and `dilation` are a convolution's.
    """

    name: str
    view: bool
    read: tuple[Shape, ...]
    written: tuple[Shape, ...]
    contiguous: bool = True
    groups: int = 1
    dilation: int = 1
    kernel: int = 1

    @property
    def moved(self) -> int:
        """Numbers read and written."""
        return sum(map(math.prod, self.read)) + sum(map(math.prod, self.written))

    @property
    def put(self) -> int:
        """Numbers written."""
        return sum(map(math.prod, self.written))


def operations(make: Callable[[], nn.Module], shapes: Sequence[Shape]) -> list[Operation]:
    """The operations of the module that `make` builds, in evaluation, on zeros of these shapes, one example.

    They do run, on the CPU: on the `meta` device small operations take longer. One thread is enough for what is so small: two
    wait for each other four times as long where another program holds a core. Random numbers are left as they were.
    """
    recorder = _Recorder()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), threads(1):
        module, inputs = make().eval(), [torch.zeros(1, *shape) for shape in shapes]
        with _Attention(recorder), recorder:
            module(*inputs)
    return recorder.found


class _Recorder(Listening):
    """Takes down each operation that reaches a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Operation] = []
        self.silent = False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.silent:
            self.found.append(_operation(func, args, out))
        return out


class _Attention(TorchFunctionMode):
    """Takes attention down as one operation: which kernels it runs differs by version and device."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **given)
        named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | given
        read = [named[name] for name in ("query", "key", "value", "attn_mask") if isinstance(named.get(name), Tensor)]
        self.recorder.silent = True
        out = named["query"].new_empty((*named["query"].shape[:-1], named["value"].shape[-1]))
        self.recorder.silent = False
        shapes = tuple(tuple(item.shape) for item in read)
        self.recorder.found.append(Operation("attention", False, shapes, (tuple(out.shape),)))
        return out


def _operation(func: Any, args: tuple[Any, ...], out: Any) -> Operation:
    name = func.__name__.split(".")[0]
    returns = func._schema.returns
    view = any(item.alias_info is not None and not item.alias_info.is_write for item in returns)
    read = list(_tensors(args))
    groups = dilation = kernel = 1
    if name == "convolution":
        groups, dilation = int(args[8]), max(args[5])
    elif name.startswith(("avg_pool", "max_pool")):
        kernel = math.prod(args[1])
    return Operation(
        name,
        view,
        tuple(tuple(item.shape) for item in read),
        tuple(tuple(item.shape) for item in _tensors(out)),
        all(item.is_contiguous() for item in read),
        groups,
        dilation,
        kernel,
    )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def amounts(operation: Operation) -> Amounts:
    """What one operation takes of the resources, those that are SIZED whatever their size."""
    name = operation.name
    if operation.view or name in _FREE:
        return {"views": 1.0}
    return _kind_amounts(operation) | dict.fromkeys(SIZED, _largest(operation))


def _largest(operation: Operation) -> float:
    """Numbers in the largest map that an operation writes, or in the scores of an attention without a kernel of its own."""
    if operation.name == "attention" and operation.read[0][-1] != operation.read[2][-1]:
        return float(math.prod(operation.read[0][:-1]) * operation.read[1][-2])
    return float(max(map(math.prod, operation.written), default=0))


def _kind_amounts(operation: Operation) -> Amounts:
    """What an operation takes by its kind."""
    name = operation.name
    if name in ("mm", "addmm", "bmm", "baddbmm"):
        return _product(operation)
    if name == "convolution":
        return _convolution(operation)
    if name == "attention":
        return _attention(operation)
    return {"operations": 1.0} | _elementwise(operation)


def _product(operation: Operation) -> Amounts:
    """A matrix product, or a batch of them."""
    macs = float(operation.put * operation.read[-2][-1])
    found = {"products": 1.0, "moved": float(operation.moved)}
    if operation.name in ("bmm", "baddbmm"):
        return found | {"batched product MACs": macs, "matrices": float(operation.written[0][0])}
    return found | {"product MACs": macs}


def _convolution(operation: Operation) -> Amounts:
    """Dense, depthwise or in groups. Depthwise kernels work on vectors of channels, so that few channels cost as many as a
    vector has: hence also the MACs of one channel."""
    weight, out = operation.read[1], operation.written[0]
    macs, found = float(operation.put * math.prod(weight[1:])), {"moved": float(operation.moved)}
    if operation.groups == 1:
        kind = "pointwise MACs" if math.prod(weight[2:]) == 1 else "convolution MACs"
        return found | {"convolutions": 1.0, kind: macs}
    found["grouped convolutions"] = 1.0
    if weight[1] > 1:
        return found | {"grouped MACs": macs}
    return found | {"dilated MACs" if operation.dilation > 1 else "depthwise MACs": macs, "depthwise rows": macs / out[1]}


def _attention(operation: Operation) -> Amounts:
    """softmax(q k') v, one for each image, head and window: where these are small, their number counts more than their MACs.

    There is no fused kernel where values have another width than queries: scores are written out.
    """
    query, key, value = operation.read[:3]
    scores = float(math.prod(query[:-1]) * key[-2])
    macs, found = scores * (query[-1] + value[-1]), {"attention matrices": float(math.prod(query[:-2]))}
    if query[-1] == value[-1]:
        return found | {"attentions": 1.0, "attention MACs": macs, "softmax": scores, "moved": float(operation.moved)}
    moved = operation.moved + 4 * scores
    return found | {"operations": 5.0, "products": 2.0, "unfused attention MACs": macs, "softmax": 2 * scores, "moved": moved}


def _elementwise(operation: Operation) -> Amounts:
    """What is no product, by what it does to each number."""
    name, moved, put = operation.name, float(operation.moved), float(operation.put)
    if name.startswith("_fft"):
        points = math.prod(operation.read[0][1:3])
        return {"transformed": math.prod(operation.read[0]) * math.log2(max(points, 2)), "moved": moved}
    if "norm" in name:
        return {"normed": moved}
    if name == "_softmax":
        return {"softmax": put}
    if name in _TRANSCENDENTAL:
        return {"transcendental": put, "moved": moved}
    if name in _COPIES:
        return {"copied": moved} | ({} if operation.contiguous else {"reordered": put})
    if name in ("im2col", "col2im"):
        return {"unfolded": moved}
    if name in _GATHERS:
        return {"gathered": moved}
    if "pool" in name:
        return {"pooled": put * operation.kernel, "moved": moved}
    return {"moved": moved} | ({} if name in _PLAIN else {"unusual": moved})
