"""Assembled networks: the skeletons of an architecture joined up, and called with tensors put where its parameters belong."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from nas.search_spaces.backbone import Backbone
from nas.supernet.views import Cut

V = TypeVar("V")
_CACHED_NETWORKS, _CACHED_NODES = 256, 8192


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A node's module at its place in the supernet.

    `cuts` names for each of its parameters the store's tensor and the part of it, `homes` the dictionary of the submodule
    that holds it and its name there.
    """

    module: nn.Module
    cuts: Mapping[str, tuple[str, Cut]]
    homes: Mapping[str, tuple[dict[str, nn.Parameter | None], str]]


@dataclass(frozen=True, slots=True)
class AssembledNetwork:
    """The skeleton of an architecture; `cuts` and `homes` as of its nodes, by the names of the network's parameters."""

    network: Backbone
    cuts: Mapping[str, tuple[str, Cut]]
    homes: Mapping[str, tuple[dict[str, nn.Parameter | None], str]]

    def set_mode(self, training: bool) -> None:
        """Training or evaluation mode; the modules are shared with other networks, so each may be in either."""
        self.network.training = training
        for node in self.network.nodes.values():
            if node.training != training:
                node.train(training)
                _forget_statistics(node)

    def __call__(self, image: Tensor, parts: Mapping[str, Tensor]) -> Tensor:
        """What the network computes with these tensors as its parameters, which are taken out again afterwards.

        As `torch.func.functional_call`, without the search for every parameter's place at every call: a step of a small
        network has hundreds of them.
        """
        held = [(owner, name, owner[name]) for owner, name in self.homes.values()]
        try:
            for parameter, (owner, name) in self.homes.items():
                owner[name] = parts[parameter]  # type: ignore[assignment]  # a view of the store is a tensor
            logits = self.network(image)
        finally:
            for owner, name, empty in held:
                owner[name] = empty
        assert isinstance(logits, Tensor)
        return logits


def _forget_statistics(module: nn.Module) -> None:
    """Batch norms have their initial statistics again: not even a momentum of zero keeps a NaN out of them."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()


def move_buffers(module: nn.Module, device: torch.device | None) -> None:
    """Move the buffers of a module whose parameters are on `meta`; None leaves them where they are."""
    for owner in module.modules() if device is not None else ():
        for name, buffer in owner.named_buffers(recurse=False):
            setattr(owner, name, buffer.to(device))


def homes_of(module: nn.Module) -> dict[str, tuple[dict[str, nn.Parameter | None], str]]:
    """For every parameter of a module, by name, the dictionary that holds it and its name there."""
    return {
        f"{prefix}.{name}" if prefix else name: (part._parameters, name)
        for prefix, part in module.named_modules()
        for name, parameter in part._parameters.items()
        if parameter is not None
    }


class Recent(OrderedDict[Hashable, V]):
    """A dictionary that forgets the least recently used of more than `capacity` entries."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def find(self, key: Hashable) -> V | None:
        """The entry, now the most recently used, or None."""
        found = self.get(key)
        if found is not None:
            self.move_to_end(key)
        return found

    def keep(self, key: Hashable, value: V) -> V:
        """Add an entry and return it."""
        self[key] = value
        if len(self) > self.capacity:
            self.popitem(last=False)
        return value


class Assembly(threading.local):
    """What one thread has assembled: a call puts tensors into the modules, so two threads cannot use the same ones.

    Networks share the modules of the nodes that they have in common: the networks of most steps are new, their nodes are not,
    and copying modules anew would take a tenth of the step.
    """

    def __init__(self) -> None:
        self.networks: Recent[AssembledNetwork] = Recent(_CACHED_NETWORKS)
        self.nodes: Recent[PlacedNode] = Recent(_CACHED_NODES)
