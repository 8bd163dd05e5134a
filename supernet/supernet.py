"""The supernet: every architecture of a space as a view of one parameter store.

To run an architecture its plain backbone, without parameters, is called with views of the store (`torch.func.functional_call`);
`extract` clones the same views into the same plain backbone. So supernet and standalone network run the same code on the
same numbers, and equal each other bit for bit on CPU.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import IMAGE, Node
from nas.search_spaces.space import SearchSpace
from nas.supernet.skeleton import Skeletons, freeze_statistics
from nas.supernet.store import parameter_store
from nas.supernet.views import slices, view

_CACHED_NETWORKS = 256
Cut = tuple[slice, ...]


class _Networks(threading.local):
    """The assembled skeletons of one thread: a call puts tensors into the modules, so two threads cannot use the same ones."""

    def __init__(self) -> None:
        self.known: OrderedDict[str, tuple[Backbone, dict[str, tuple[str, Cut]]]] = OrderedDict()


class Supernet(nn.Module):
    """Shared weights for all architectures of `space`.

    Called with images (B, in_channels, H, W) and an architecture, returns logits (B, num_classes). Batch norms use batch
    statistics in training mode and their initial statistics in evaluation mode: calibrate an extracted network
    (`nas.supernet.calibration`) before its accuracy is read. Raises SpaceError for an architecture of another space.
    """

    def __init__(self, space: SearchSpace, num_classes: int, in_channels: int = 3, *, seed: int = 0) -> None:
        super().__init__()
        self.space, self.num_classes, self.in_channels = space, num_classes, in_channels
        self.store = parameter_store(space, num_classes, in_channels, seed)
        self._skeletons, self._networks = Skeletons(), _Networks()

    def forward(self, image: Tensor, architecture: Architecture) -> Tensor:
        """Logits of one architecture."""
        _, cuts = self._network(architecture)
        with torch.inference_mode(False):  # PyTorch multiplies in another order where a weight does not require gradients
            parts = {name: view(self.store[key], cut) for name, (key, cut) in cuts.items()}
        return self.run(image, architecture, parts)

    def run(self, image: Tensor, architecture: Architecture, parts: dict[str, Tensor]) -> Tensor:
        """Logits of one architecture with the given tensors as its parameters."""
        network, _ = self._network(architecture)
        network.train(self.training)
        # Copies of one skeleton hold the same `meta` tensors, which does not make them share weights.
        return functional_call(network, parts, (image,), tie_weights=False)

    def run_checkpointed(self, image: Tensor, architecture: Architecture, parts: dict[str, Tensor]) -> Tensor:
        """As `run`, but of each node only the inputs are kept for the backward pass, which computes the rest again."""
        network, _ = self._network(architecture)
        network.train(self.training)
        owned: dict[str, dict[str, Tensor]] = {name: {} for name, _ in network.plan}
        for name, part in parts.items():
            _, node, local = name.split(".", 2)
            owned[node][local] = part

        values = {IMAGE: image}
        for name, inputs in network.plan:
            call = partial(checkpoint, _call, network.nodes[name], owned[name], use_reentrant=False)
            network.run_node(name, inputs, values, call)
        return values[network.plan[-1][0]]

    def cuts(self, architecture: Architecture) -> dict[str, tuple[str, Cut]]:
        """For each parameter of an architecture, the store's tensor and the part of it. Raises SpaceError for a stranger."""
        return self._network(architecture)[1]

    def leaves(self, architecture: Architecture) -> dict[str, Tensor]:
        """The architecture's parameters by name, cut off from the store: what `run` may be differentiated by.

        Gradients with respect to the parts are smaller than with respect to the store, and networks that run side by side
        do not write into the same tensors; `accumulate` adds them up.
        """
        _, cuts = self._network(architecture)
        return {name: view(self.store[key], cut).detach().requires_grad_() for name, (key, cut) in cuts.items()}

    def accumulate(self, architecture: Architecture, gradients: Mapping[str, Tensor]) -> None:
        """Add the gradients of an architecture's parameters to those of the store."""
        _, cuts = self._network(architecture)
        for name, gradient in gradients.items():
            key, cut = cuts[name]
            tensor = self.store[key]
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            tensor.grad[cut] += gradient

    def extract(self, architecture: Architecture) -> Backbone:
        """The architecture as a plain network with cloned weights, in the supernet's mode; nothing is shared with it."""

        def make(node: Node) -> nn.Module:
            module, _ = self._skeletons.get(node)
            for part in module.modules():
                for name, buffer in part.named_buffers(recurse=False):
                    setattr(part, name, buffer.clone())
            return module

        _, cuts = self._network(architecture)
        network = Backbone(architecture, self.num_classes, self.in_channels, make=make).to(self.device_of_buffers())
        for name, (key, cut) in cuts.items():
            owner, _, local = name.rpartition(".")
            clone = view(self.store[key], cut).detach().clone()
            setattr(network.get_submodule(owner), local, nn.Parameter(clone))
        return network.train(self.training)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_skeletons", "_networks")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._skeletons, self._networks = Skeletons(), _Networks()

    def device_of_buffers(self) -> torch.device | None:
        """The device that constant buffers are moved to; None while the store is on the CPU, where they are made."""
        device = next(iter(self.store.values())).device
        return None if device.type == "cpu" else device

    def _network(self, architecture: Architecture) -> tuple[Backbone, dict[str, tuple[str, Cut]]]:
        """The skeleton of an architecture, and for each of its parameters the store's tensor and the part of it."""
        networks = self._networks.known
        known = networks.get(architecture.digest)
        if known is None:
            known = networks[architecture.digest] = self._assemble(architecture)
            if len(networks) > _CACHED_NETWORKS:
                networks.popitem(last=False)
        networks.move_to_end(architecture.digest)
        return known

    def _assemble(self, architecture: Architecture) -> tuple[Backbone, dict[str, tuple[str, Cut]]]:
        cuts: dict[str, tuple[str, Cut]] = {}

        def make(node: Node) -> nn.Module:
            module, parts = self._skeletons.get(node)
            freeze_statistics(module)
            for share in parts:
                if share.key not in self.store:
                    raise SpaceError(f"{node.operator!r} at {node.name} of {architecture.digest} is not in {self.space.name!r}")
                full = tuple(self.store[share.key].shape)
                if any(part > whole for part, whole in zip(share.shape, full, strict=True)):
                    raise SpaceError(f"{node.name} of {architecture.digest} is larger than any of space {self.space.name!r}")
                cuts[f"nodes.{node.name}.{share.local}"] = share.key, slices(full, share.shape, share.modes)
            return module

        network = Backbone(architecture, self.num_classes, self.in_channels, make=make)
        device = self.device_of_buffers()
        if device is not None:
            for module in network.modules():
                for name, buffer in module.named_buffers(recurse=False):
                    setattr(module, name, buffer.to(device))
        return network, cuts


def _call(module: nn.Module, parts: dict[str, Tensor], *inputs: Tensor) -> Any:
    return functional_call(module, parts, inputs, tie_weights=False)
