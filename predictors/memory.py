"""Peak memory of one inference: weights, and the most bytes of maps that are alive at one moment.

The graph says which maps are still needed when a node runs. What a node holds beside them is counted once a distinct node, by
running it on one example and following every tensor it makes from birth to death. What a kernel takes for itself and gives
back before it returns (packed weights, tiles) is not seen, nor is the library that runs the network.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from nas.errors import UsageError
from nas.predictors.cost import BYTES, node_cost, node_inputs
from nas.predictors.listening import Listening
from nas.predictors.threads import threads
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import IMAGE, Node, nodes

BYTES_OF = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}
KEEPS_MAPS = ("eager",)
"""Runtimes that hold every map until the network returns: the network keeps them by name for whoever may read them."""


def peak_memory(
    architecture: Architecture,
    resolution: int | None = None,
    *,
    in_channels: int = 3,
    num_classes: int = 1000,
    batch: int = 1,
    precision: str = "fp32",
    runtime: str = "eager",
) -> int:
    """Bytes of weights, images and maps at the worst moment of an inference of `batch` images.

    The images are of `resolution`, by default the architecture's own. A runtime that plans its memory frees a map behind its
    last reader; eager mode keeps all until the end. Raises UsageError for an unknown precision or a batch below 1, and what
    `nodes` raises.
    """
    if precision not in BYTES_OF or batch < 1:
        raise UsageError(
            f"precision {precision!r} and batch {batch} have no memory: precisions are {', '.join(BYTES_OF)}, "
            "and a batch is at least 1"
        )
    found = nodes(architecture, resolution, in_channels, num_classes)
    weights = sum(node_cost(node).params for node in found)
    side = resolution or architecture.resolution
    maps = _peak_maps(found, side * side * in_channels, runtime in KEEPS_MAPS)
    return BYTES_OF[precision] * (weights + batch * maps)


def _peak_maps(found: tuple[Node, ...], image: int, keep: bool) -> int:
    """The most numbers alive at once: what waits for a reader, and what the node at work makes."""
    last = _last_readers(found)
    alive: dict[str, int] = {IMAGE: image}
    worst = 0
    for place, node in enumerate(found):
        held, made = node_numbers(node)
        worst = max(worst, sum(alive.values()) + held)
        alive[node.name] = made
        if not keep:
            alive = {name: size for name, size in alive.items() if last.get(name, -1) > place}
    return worst


def _last_readers(found: tuple[Node, ...]) -> Mapping[str, int]:
    """By the name of a node, the place of the last node that reads what it made, be it its map or what it emits beside it."""
    return {source.partition(":")[0]: place for place, node in enumerate(found) for source in node.inputs}


_CACHE: dict[str, tuple[int, int]] = {}


def node_numbers(node: Node) -> tuple[int, int]:
    """How many numbers (fp32) a node holds beside its inputs at its worst moment, and how many it returns, for one example."""
    key = node.key + node.emits
    if key not in _CACHE:
        module, inputs = module_of(node).eval(), node_inputs(node)
        with torch.inference_mode(), threads(1), Follow() as follow:
            returned = module(*inputs)
            kept = {leaf.untyped_storage().data_ptr(): leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)}
        own = {tensor.untyped_storage().data_ptr() for tensor in inputs}
        made = sum(leaf.untyped_storage().nbytes() for address, leaf in kept.items() if address not in own)
        _CACHE[key] = -(-follow.peak // BYTES), -(-made // BYTES)
    return _CACHE[key]


class Follow(Listening):
    """Counts the bytes of the tensors that are made inside it and still alive; `peak` is the most there ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, and count what it made beside the storages of its arguments."""
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage())._cdata not in given | self.alive.keys():
                self.alive[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.alive.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return out
