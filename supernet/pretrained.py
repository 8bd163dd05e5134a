"""Starting a supernet from a network that is trained already."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas.errors import SpaceError
from nas.search_spaces.architecture import Architecture
from nas.supernet.supernet import Supernet


def start_from(supernet: Supernet, architecture: Architecture, weights: Mapping[str, Tensor]) -> list[str]:
    """Write a network's weights into its part of the store; returns the parameters that kept their initial values.

    `weights` is the state dict of the plain network of `architecture`. Parameters of another shape (a head of other classes)
    are left out. What other networks share with this one starts from its weights, the rest from its own initial values.
    Raises SpaceError where the space does not hold the architecture, or none of the weights fit.
    """
    if not supernet.space.contains(architecture):
        raise SpaceError(
            f"space {supernet.space.name!r} does not hold architecture {architecture.digest}: take a space around it, "
            "`nas.space_around(architecture)`"
        )
    left = []
    cuts = supernet.cuts(architecture)
    with torch.no_grad():
        for name, (key, cut) in cuts.items():
            given = weights.get(name)
            if given is None or given.shape != supernet.store[key][cut].shape:
                left.append(name)
            else:
                supernet.store[key][cut] = given
    if len(left) == len(cuts):
        raise SpaceError(f"none of the weights given fit architecture {architecture.digest}: they belong to another network")
    return left
