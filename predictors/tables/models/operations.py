"""The operations that a network runs on one image, from its forward pass on tensors without data.

Nothing is computed and no weight is needed: tensors lie on torch's `meta` device, which has shapes alone, and the calls of
ATen are listened to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from nas.errors import UsageError
from nas.predictors.listening import Listening

Shape = tuple[int, ...]
CONVOLUTION, ATTENTION, RESULT = "convolution", "attention", "result"
PRODUCTS = {"mm", "addmm", "bmm", "baddbmm"}
IDLE = {
    "empty", "empty_like", "new_empty", "as_strided", "detach", "_unsafe_view", "_reshape_alias", "lift_fresh", "unsafe_split",
    "unsafe_chunk",
}  # fmt: skip
"""Calls that touch no element."""
IMAGE = -1
CHANNELS = 3


@dataclass(frozen=True, slots=True)
class Operation:
    """One call: its name in ATen, the shapes of the activations that it reads and writes and of the parameters that it reads.

    `sources` are the numbers of the operations that wrote what it reads, -1 for the image and for what no operation wrote.
    Convolutions have `groups` and a `stride`, products the dimension `inner` that is summed over. The last operation of a
    network is its result, which reads what the caller gets.
    """

    name: str
    reads: tuple[Shape, ...]
    weights: tuple[Shape, ...]
    writes: tuple[Shape, ...]
    sources: tuple[int, ...]
    groups: int = 1
    stride: int = 1
    inner: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds; 0 for all but convolutions, products and attention."""
        out = math.prod(self.writes[0]) if self.writes else 0
        if self.name == CONVOLUTION:
            return out * math.prod(self.filter[1:])
        if self.name in PRODUCTS:
            return out * self.inner
        if self.name == ATTENTION:
            query, key, value = self.reads[:3]
            return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
        return 0

    @property
    def filter(self) -> Shape:
        """(outputs, inputs of a group, height, width) of a convolution, whose weights may be computed like activations."""
        return next(shape for shape in (*self.weights, *self.reads[1:]) if len(shape) > 2)

    @property
    def read(self) -> int:
        """Elements of the activations that it reads."""
        return sum(map(math.prod, self.reads))

    @property
    def written(self) -> int:
        """Elements that it writes."""
        return sum(map(math.prod, self.writes))


def operations(model: nn.Module, size: int) -> list[Operation]:
    """The operations of `model`, which lies on the meta device, on one square image (1, 3, size, size).

    Raises UsageError where the network needs numbers to find its way, or takes no image of that size.
    """
    listener = _Listener(model)
    try:
        with torch.no_grad(), listener, _WholeAttention(listener):
            found = model.eval()(torch.empty(1, CHANNELS, size, size, device="meta"))
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UsageError(f"the network runs on no image of {size} x {size} without data: {reason}") from error
    listener.hear(RESULT, _tensors(found), ())
    return listener.heard


class _Listener(Listening):
    """Hears all calls, and knows which of them wrote a storage last: that is what a later reader reads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.heard: list[Operation] = []
        self._writers: dict[int, int] = {}
        self._parameters = {_storage(tensor) for tensor in (*model.parameters(), *model.buffers())}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1].removesuffix("_")
        if not func.is_view and name not in IDLE and (written := _tensors(found)):
            self.hear(name, _tensors((args, kwargs)), written, **_details(name, args))
        return found

    def hear(self, name: str, read: Sequence[Tensor], written: Sequence[Tensor], **details: int) -> None:
        """Note a call."""
        weights = [tensor for tensor in read if _storage(tensor) in self._parameters]
        activations = [tensor for tensor in read if _storage(tensor) not in self._parameters]
        sources = tuple(self._writers.get(_storage(tensor), IMAGE) for tensor in activations)
        for tensor in written:
            self._writers[_storage(tensor)] = len(self.heard)
        self.heard.append(Operation(name, _shapes(activations), _shapes(weights), _shapes(written), sources, **details))


class _WholeAttention(TorchFunctionMode):
    """Keeps attention whole, which ATen takes apart on tensors without data."""

    def __init__(self, listener: _Listener) -> None:
        super().__init__()
        self._listener = listener

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        read = _tensors((args, kwargs))
        query, _, value = read[:3]
        found = query.new_empty((*query.shape[:-1], value.shape[-1]))
        self._listener.hear(ATTENTION, read, (found,))
        return found


def _details(name: str, args: Sequence[Any]) -> dict[str, int]:
    """What the shapes of a call do not tell."""
    if name == CONVOLUTION:
        return {"groups": args[8], "stride": max(args[3])}
    return {"inner": args[-1].shape[-2]} if name in PRODUCTS else {}


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _shapes(tensors: Sequence[Tensor]) -> tuple[Shape, ...]:
    return tuple(tuple(tensor.shape) for tensor in tensors)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
