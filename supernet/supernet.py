"""The supernet: every architecture of a space as a view of one parameter store.

To run an architecture its plain backbone, without parameters, is called with views of the store in their places; `extract`
clones the same views into the same plain backbone. So supernet and standalone network run the same code on the same numbers,
and equal each other bit for bit on CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from nas.errors import SpaceError, UsageError
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import IMAGE, Node
from nas.search_spaces.space import SearchSpace
from nas.supernet.assembly import AssembledNetwork, Assembly, PlacedNode, homes_of, move_buffers
from nas.supernet.sharing import Sharing
from nas.supernet.skeleton import Skeletons, freeze_statistics
from nas.supernet.store import parameter_store
from nas.supernet.views import Cut, view


class Supernet(nn.Module):
    """Shared weights for all architectures of `space`, but for what `unshared` names (`nas.supernet.sharing`).

    Called with images (B, in_channels, H, W) and an architecture, returns logits (B, num_classes). Batch norms use batch
    statistics in training mode and their initial statistics in evaluation mode: calibrate an extracted network
    (`nas.supernet.calibration`) before its accuracy is read. Raises UnknownNameError for an unknown name in `unshared`; in use
    SpaceError for an architecture that the store has no room for; one of another space that fits is run.
    """

    def __init__(
        self, space: SearchSpace, num_classes: int, in_channels: int = 3, *, seed: int = 0, unshared: str = ""
    ) -> None:
        super().__init__()
        self.space, self.num_classes, self.in_channels = space, num_classes, in_channels
        self.sharing = Sharing.parse(unshared)
        self.store = parameter_store(space, num_classes, in_channels, seed, self.sharing)
        self._skeletons, self._assembly = Skeletons(sharing=self.sharing), Assembly()

    def forward(self, image: Tensor, architecture: Architecture) -> Tensor:
        """Logits of one architecture."""
        cuts = self._assembled(architecture).cuts
        with torch.inference_mode(False):  # PyTorch multiplies in another order where a weight does not require gradients
            parts = {name: view(self.store[key], cut) for name, (key, cut) in cuts.items()}
        return self.run(image, architecture, parts)

    def run(self, image: Tensor, architecture: Architecture, parts: dict[str, Tensor]) -> Tensor:
        """Logits of one architecture with the given tensors as its parameters."""
        assembled = self._assembled(architecture)
        assembled.set_mode(self.training)
        return assembled(image, parts)

    def run_checkpointed(self, image: Tensor, architecture: Architecture, parts: dict[str, Tensor]) -> Tensor:
        """As `run`, but of each node only the inputs are kept for the backward pass, which computes the rest again."""
        assembled = self._assembled(architecture)
        assembled.set_mode(self.training)
        network = assembled.network
        owned: dict[str, dict[str, Tensor]] = {name: {} for name, _ in network.plan}
        for name, part in parts.items():
            _, node, local = name.split(".", 2)
            owned[node][local] = part

        values = {IMAGE: image}
        for name, inputs in network.plan:
            call = partial(checkpoint, _call, network.nodes[name], owned[name], use_reentrant=False)
            network.run_node(name, inputs, values, call)
        return values[network.plan[-1][0]]

    def cuts(self, architecture: Architecture) -> Mapping[str, tuple[str, Cut]]:
        """For each parameter of an architecture, the store's tensor and the part of it. Raises SpaceError for a stranger."""
        return self._assembled(architecture).cuts

    def touched(self, architectures: Iterable[Architecture]) -> dict[str, tuple[slice, ...]]:
        """For each tensor of the store that some architectures use, the smallest block that holds all parts they take of it."""
        found: dict[str, tuple[slice, ...]] = {}
        for architecture in architectures:
            for key, cut in self.cuts(architecture).values():
                both = zip(found.get(key, cut.slices), cut.slices, strict=True)
                found[key] = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in both)
        return found

    def leaves(self, architecture: Architecture) -> dict[str, Tensor]:
        """The architecture's parameters by name, cut off from the store: what `run` may be differentiated by.

        Gradients with respect to the parts are smaller than with respect to the store, and networks that run side by side
        do not write into the same tensors; `accumulate` adds them up.
        """
        cuts, tensors = self._assembled(architecture).cuts, self._tensors
        with torch.no_grad():
            return {name: cut.of(tensors[key]).contiguous().detach().requires_grad_() for name, (key, cut) in cuts.items()}

    def accumulate(self, architecture: Architecture, gradients: Mapping[str, Tensor]) -> None:
        """Add the gradients of an architecture's parameters to those of the store."""
        cuts, tensors = self._assembled(architecture).cuts, self._tensors
        for name, gradient in gradients.items():
            key, cut = cuts[name]
            tensor = tensors[key]
            summed = tensor.grad
            if summed is None and cut.whole:  # a copy: one tensor may be the gradient of two parameters
                tensor.grad = gradient.clone(memory_format=torch.contiguous_format)
                continue
            if summed is None:
                summed = tensor.grad = torch.zeros_like(tensor)
            cut.of(summed).add_(gradient)

    def extract(self, architecture: Architecture) -> Backbone:
        """The architecture as a plain network with cloned weights, in the supernet's mode; nothing is shared with it."""

        def make(node: Node) -> nn.Module:
            module, _ = self._skeletons.get(node)
            for part in module.modules():
                for name, buffer in part.named_buffers(recurse=False):
                    setattr(part, name, buffer.clone())
            return module

        cuts = self._assembled(architecture).cuts
        network = Backbone(architecture, self.num_classes, self.in_channels, make=make)
        move_buffers(network, self.device_of_buffers())
        for name, (key, cut) in cuts.items():
            owner, _, local = name.rpartition(".")
            clone = view(self.store[key], cut).detach().clone()
            setattr(network.get_submodule(owner), local, nn.Parameter(clone))
        return network.train(self.training)

    def load_member(self, architecture: Architecture, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Write a member's weights, under the names of `extract`, into the parts of the store that are its own.

        Running statistics are passed over: the store has none. What a head of other classes cannot give stays as it is; the
        names of that are returned. Raises SpaceError for a stranger, UsageError for the first name or shape that is not the
        member's, in both cases before anything is written.
        """
        assembled = self._assembled(architecture)
        missing, strange = assembled.cuts.keys() - state.keys(), state.keys() - assembled.network.state_dict().keys()
        for names, wrong in ((missing, "lack"), (strange, "have beside its parameters")):
            if names:
                raise UsageError(f"the weights for {architecture.digest} {wrong} {min(names)!r}: are they another network's?")
        fresh = []
        for name, (_, cut) in assembled.cuts.items():
            wanted, given = cut.shape, state[name].shape
            if wanted != given and name.startswith("nodes.head.") and (self.num_classes, *given[1:]) == wanted:
                fresh.append(name)
            elif wanted != given:
                raise UsageError(f"{name!r} of {architecture.digest} has shape {wanted}, the weights {tuple(given)}")
        with torch.no_grad():
            for name in assembled.cuts.keys() - set(fresh):
                key, cut = assembled.cuts[name]
                cut.of(self.store[key]).copy_(state[name])
        return tuple(fresh)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_skeletons", "_assembly")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._skeletons, self._assembly = Skeletons(sharing=self.sharing), Assembly()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Where the store is moved, assembled networks have their constants at the old place: they are made anew.

        Raises UsageError where tensors are given another order in memory, in which parts of them are not found.
        """
        self._assembly = Assembly()
        moved = super()._apply(fn, recurse)
        if not all(tensor.is_contiguous() for tensor in self.store.values()):
            raise UsageError("the tensors of a supernet must stay contiguous: give its images another memory format instead")
        return moved

    @property
    def _tensors(self) -> Mapping[str, Tensor]:
        """The store as a plain dictionary: hundreds of tensors are looked up in a step."""
        return cast(dict[str, Tensor], self.store._parameters)

    @property
    def device(self) -> torch.device:
        """Where the store is."""
        return next(iter(self.store.values())).device

    def device_of_buffers(self) -> torch.device | None:
        """The device that constant buffers are moved to; None while the store is on the CPU, where they are made."""
        return None if self.device.type == "cpu" else self.device

    def _assembled(self, architecture: Architecture) -> AssembledNetwork:
        networks = self._assembly.networks
        return networks.find(architecture.digest) or networks.keep(architecture.digest, self._assemble(architecture))

    def _assemble(self, architecture: Architecture) -> AssembledNetwork:
        placed: dict[str, PlacedNode] = {}

        def make(node: Node) -> nn.Module:
            known = self._assembly.nodes
            place = (node.name, node.slot, node.key)
            placed[node.name] = known.find(place) or known.keep(place, self._place(node, architecture))
            return placed[node.name].module

        network = Backbone(architecture, self.num_classes, self.in_channels, make=make)
        return AssembledNetwork(
            network,
            {f"nodes.{name}.{local}": cut for name, node in placed.items() for local, cut in node.cuts.items()},
            {f"nodes.{name}.{local}": home for name, node in placed.items() for local, home in node.homes.items()},
        )

    def _place(self, node: Node, architecture: Architecture) -> PlacedNode:
        """A module for a node and the parts of the store that are its parameters."""
        module, parts = self._skeletons.get(node)
        freeze_statistics(module)
        cuts: dict[str, tuple[str, Cut]] = {}
        for share in parts:
            if share.key not in self.store:
                raise SpaceError(f"{node.operator!r} at {node.name} of {architecture.digest} is not in {self.space.name!r}")
            full = tuple(self.store[share.key].shape)
            if any(part > whole for part, whole in zip(share.shape, full, strict=True)):
                raise SpaceError(f"{node.name} of {architecture.digest} is larger than any of space {self.space.name!r}")
            cuts[share.local] = share.key, Cut.out_of(full, share.shape, share.modes)
        move_buffers(module, self.device_of_buffers())
        return PlacedNode(module, cuts, homes_of(module))


def _call(module: nn.Module, parts: dict[str, Tensor], *inputs: Tensor) -> Any:
    return functional_call(module, parts, inputs, tie_weights=False)
