"""Skeletons: the plain modules of an architecture without their parameters, to be called with views of the store."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn import init

from nas.search_spaces import graph
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node
from nas.search_spaces.registry import Kind, operator
from nas.supernet.sharing import EVERYTHING, NORM, OPERATOR, Sharing
from nas.supernet.views import Modes, parameters_with_modes

_PATCHING = threading.Lock()
"""`parameters_on_meta` changes a class and functions that all threads use."""
_INITIALISERS = [name for name in dir(init) if name.endswith("_") and not name.startswith("_")]


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

    `torch.device("meta")` would take the buffers along: position indices and masks would lose their values. Initialisers leave
    `meta` tensors alone inside: these have no values to set, which would take half the time.
    """
    original = nn.Module.register_parameter
    builder = threading.get_ident()

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        mine = threading.get_ident() == builder
        if mine and parameter is not None and parameter.device.type != "meta":
            parameter = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
        original(module, name, parameter)

    def unless_empty(initialiser: Callable[..., Any]) -> Callable[..., Any]:
        return lambda tensor, *args, **options: (
            tensor if tensor.device.type == "meta" else initialiser(tensor, *args, **options)
        )

    initialisers = {name: getattr(init, name) for name in _INITIALISERS}

    nn.Module.register_parameter = register  # type: ignore[method-assign, assignment]
    for name, initialiser in initialisers.items():
        setattr(init, name, unless_empty(initialiser))
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]
        for name, initialiser in initialisers.items():
            setattr(init, name, initialiser)


def shares(node: Node, module: nn.Module, sharing: Sharing = EVERYTHING) -> list[Share]:
    """Where each parameter of a node's module lives in the store.

    Unless `sharing` keeps them apart, operators of one family share at one slot, and so do norms of all kinds; each operator
    has a layer scale, and whatever else its residual has, of its own.
    """
    found = []
    for local, parameter, modes in parameters_with_modes(module):
        part, _, rest = local.removeprefix("residual.").partition(".")
        owner = _family(node) if part == OPERATOR else part
        if node.residual and part not in (OPERATOR, NORM):
            owner = f"{part}/{node.operator}"
        key = store_key(node.slot, (*sharing.owners(node, part), owner), rest)
        found.append(Share(local, key, tuple(parameter.shape), modes))
    return found


def store_key(slot: str, owners: tuple[str, ...], parameter: str) -> str:
    """The name of a shared tensor; `/` stands for `.`, which PyTorch does not allow in names."""
    return "/".join((slot, *owners, *(name for name in parameter.split(".") if name)))


def _family(node: Node) -> str:
    return operator(Kind.TOKEN_MIXER if node.kind == graph.BRANCH else Kind(node.kind), node.operator).family


class Skeletons:
    """Node modules without parameters, built once for each kind of work and copied for each use.

    A call puts tensors into the modules, so no two places of a network and no two threads may use the same ones; but building
    a module takes twice as long as copying an empty one. The least recently used are dropped first.
    """

    def __init__(self, capacity: int = 16384, sharing: Sharing = EVERYTHING) -> None:
        self.capacity, self.sharing = capacity, sharing
        self._known: OrderedDict[str, tuple[nn.Module, list[Share]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, node: Node) -> tuple[nn.Module, list[Share]]:
        """A module for a node, parameters on `meta`, and where these live in the store."""
        with self._lock:
            known = self._known.get(node.key)
            if known is None:
                known = self._known[node.key] = skeleton_of(node, self.sharing)
                if len(self._known) > self.capacity:
                    self._known.popitem(last=False)
            self._known.move_to_end(node.key)
        module, parts = known
        return _copy(module), [Share(part.local, _moved(part.key, node.slot), part.shape, part.modes) for part in parts]


def skeleton_of(node: Node, sharing: Sharing = EVERYTHING) -> tuple[nn.Module, list[Share]]:
    """A fresh skeleton of a node with its shares."""
    with _PATCHING, parameters_on_meta():
        module = module_of(node)
    return module, shares(node, module, sharing)


def _moved(key: str, slot: str) -> str:
    """The key of the same parameter at another slot."""
    return f"{slot}/{key.split('/', 1)[1]}"


def _copy(module: nn.Module) -> nn.Module:
    """A module of its own with the same parameters and buffers; running statistics, which calls change, are its own too.

    So are the dictionaries that hold hooks.
    """
    copied = module.__new__(type(module))
    copied.__dict__ = {k: v.copy() if isinstance(v, dict) else v for k, v in module.__dict__.items()}
    own = isinstance(module, nn.BatchNorm2d)
    copied._parameters = dict(module._parameters)
    copied._buffers = {name: b.clone() if own and b is not None else b for name, b in module._buffers.items()}
    copied._modules = {name: part if part is None else _copy(part) for name, part in module._modules.items()}
    return copied


def freeze_statistics(module: nn.Module) -> None:
    """Batch norms keep their initial running statistics: those of shared weights fit no single architecture."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 0.0
