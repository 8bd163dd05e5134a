"""A supernet that starts from a published network: its largest member, or another one, has the published weights."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from nas.errors import SpaceError, UnknownNameError
from nas.search_spaces.anchored import SpaceAround
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.catalog.entry import entries
from nas.search_spaces.catalog.loading import load_timm
from nas.search_spaces.space import SearchSpace
from nas.supernet.supernet import Supernet
from nas.supernet.teachers import source, timm_model
from nas.supernet.views import Modes, parameters_with_modes, slices

ROLE, COLOURS = "published network", 3


def pretrained(text: str) -> Backbone | None:
    """The catalogue backbone with the weights that `catalog:NAME=FILE`, `timm:NAME` or `timm:NAME=FILE` names; None for "".

    FILE is a safetensors state dict with timm's names; timm fetches its own weights without one. Raises UsageError or
    UnknownNameError for another text, FileError for an unreadable file or one of another model.
    """
    if not text:
        return None
    kind, name, state = source(text, ROLE)
    if kind == "timm":
        model, name = name, _named_in_catalog(name)
        state = timm_model(model, None, ROLE).state_dict() if state is None else state
    assert state is not None, "only timm fetches weights"
    return load_timm(name, state)


def with_absolute_path(text: str) -> str:
    """The text with its FILE, if there is one, as seen from any folder."""
    name, equals, file = text.partition("=")
    return f"{name}={Path(file).absolute()}" if equals and file else text


def member_for(space: SearchSpace, architecture: Architecture) -> Architecture:
    """The member of a space that takes a network's weights: of the space around it the largest, else the network itself.

    Raises SpaceError where it is no member.
    """
    if isinstance(space, SpaceAround) and space.anchor == architecture:
        return space.largest()
    if not space.contains(architecture):
        raise SpaceError(
            f"the {ROLE} to start from, {architecture.digest}, is no member of space {space.name!r}: "
            "search the space around it, --space around:NAME"
        )
    return architecture


def start_from(supernet: Supernet, network: Backbone) -> tuple[str, ...]:
    """Give a network's weights to the supernet; returns the names of those of the head that other classes leave fresh.

    Where the images are grey, the weights of the three colours are added up, which is to show grey images as coloured ones.
    Raises SpaceError where the network is no member of the space, UsageError where its parameters have other shapes.
    """
    chosen = member_for(supernet.space, network.architecture)
    shapes = {name: cut.shape for name, (_, cut) in supernet.cuts(chosen).items()}
    modes = {name: modes for name, _, modes in parameters_with_modes(network)}
    state = dict(network.state_dict())
    for name in state.keys() & shapes.keys():
        if name.startswith("nodes.stem.op.") and (tuple(state[name].shape[1:2]), shapes[name][1:2]) == ((COLOURS,), (1,)):
            state[name] = state[name].sum(1, keepdim=True)
        state[name] = _centre(state[name], shapes[name], modes[name])
    return supernet.load_member(chosen, state)


def _centre(tensor: Tensor, shape: tuple[int, ...], modes: Modes) -> Tensor:
    """The centre of a kernel or table that is larger than the member's, which has none beyond the edges of its small maps."""
    if len(shape) != tensor.ndim:
        return tensor
    sizes = zip(tensor.shape, shape, modes, strict=True)
    smaller = tuple(min(whole, part) if centred else whole for whole, part, centred in sizes)
    return tensor[slices(tuple(tensor.shape), smaller, modes)]


def _named_in_catalog(model: str) -> str:
    """The catalogue's name of a timm model, whatever weights of it are asked for (`NAME.TAG`)."""
    known = {entry.timm: entry.name for entry in entries() if entry.timm is not None}
    name = model.partition(".")[0]
    if name not in known:
        raise UnknownNameError("timm model of the catalogue", name, known)
    return known[name]
