"""Skeletons: the plain modules of an architecture without their parameters, to be called with views of the store."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from nas.search_spaces import graph
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node
from nas.search_spaces.registry import Kind, operator
from nas.supernet.views import Modes, parameters_with_modes

_PATCHING = threading.Lock()
"""`parameters_on_meta` changes a class that all threads use."""


@dataclass(frozen=True, slots=True)
class Share:
    """A parameter of a node by its local name, the store's tensor it is a part of, and which part."""

    local: str
    key: str
    shape: tuple[int, ...]
    modes: Modes


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside hold their parameters on the `meta` device, and real buffers.

    `torch.device("meta")` would take the buffers along: position indices and masks would lose their values.
    """
    original = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and parameter.device.type != "meta":
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        original(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]


def shares(node: Node, module: nn.Module) -> list[Share]:
    """Where each parameter of a node's module lives in the store.

    Operators of one family share at one slot; norms of all kinds share; each operator has a layer scale of its own.
    """
    found = []
    for local, parameter, modes in parameters_with_modes(module):
        part, _, rest = local.partition(".")
        owner = {"op": _family(node), "scale": f"scale/{node.operator}"}.get(part, part)
        found.append(Share(local, store_key(node.slot, owner, rest), tuple(parameter.shape), modes))
    return found


def store_key(slot: str, owner: str, parameter: str) -> str:
    """The name of a shared tensor; `/` stands for `.`, which PyTorch does not allow in names."""
    return "/".join((slot, owner, *(name for name in parameter.split(".") if name)))


def _family(node: Node) -> str:
    if node.kind in (graph.SPLIT, graph.CONCAT, graph.PROJECTION, graph.HEAD):
        return node.kind
    kind = Kind.TOKEN_MIXER if node.kind == graph.BRANCH else Kind(node.kind)
    return operator(kind, node.operator).family


class SkeletonCache:
    """Node modules without parameters, by node name and work, the least recently used dropped first.

    Names belong to the key because one network may do the same work in two places with different weights.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        self._known: OrderedDict[tuple[str, str], tuple[nn.Module, list[Share]]] = OrderedDict()

    def get(self, node: Node) -> tuple[nn.Module, list[Share]]:
        """The module of a node, parameters on `meta`, and where these live in the store."""
        key = (node.name, node.key)
        known = self._known.get(key)
        if known is None:
            module, parts = skeleton_of(node)
            freeze_statistics(module)
            known = self._known[key] = (module, parts)
            if len(self._known) > self.capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known


def skeleton_of(node: Node) -> tuple[nn.Module, list[Share]]:
    """A fresh skeleton of a node with its shares."""
    with _PATCHING, parameters_on_meta():
        module = module_of(node)
    return module, shares(node, module)


def freeze_statistics(module: nn.Module) -> None:
    """Batch norms keep their initial running statistics: those of shared weights fit no single architecture."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0
