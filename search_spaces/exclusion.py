"""A space without some of its operators, for a target that cannot run them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from nas.errors import SpaceError
from nas.search_spaces import graph
from nas.search_spaces.architecture import Architecture, Op
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.registry import Kind
from nas.search_spaces.space import SearchSpace

FIELDS = {
    Kind.TOKEN_MIXER: ("mixers", "partners"),
    Kind.CHANNEL_MIXER: ("channel_mixers",),
    Kind.STEM: ("stems",),
    Kind.DOWNSAMPLE: ("downsamples",),
    Kind.NORM: ("norms",),
    Kind.RESIDUAL: ("residuals",),
    Kind.HEAD: ("heads",),
}


def traits(node: Node) -> frozenset[str]:
    """The operators of a node, each as `kind:name`: its own, its norm's and its residual's."""
    found = {f"{Kind.TOKEN_MIXER}:{node.operator}"} if node.kind == graph.BRANCH else set()
    if node.kind in {kind.value for kind in Kind} and node.operator:
        found.add(f"{node.kind}:{node.operator}")
    if node.norm:
        found.add(f"{Kind.NORM}:{Op.parse(node.norm).name}")
    if node.residual:
        found.add(f"{Kind.RESIDUAL}:{Op.parse(node.residual).name}")
    return frozenset(found)


def operators_in(architecture: Architecture) -> frozenset[str]:
    """All operators of an architecture, each as `kind:name`."""
    return frozenset().union(*(traits(node) for node in nodes(architecture)))


def without(space: SearchSpace, excluded: Collection[str]) -> SearchSpace:
    """The space without operators, given as `kind:name`; the space itself where it has none of them.

    Raises SpaceError where nothing is left to choose from, and for a space around a backbone that is made of them.
    """
    data: dict[str, Any] = {}
    for kind, fields in FIELDS.items():
        for field in fields:
            before = getattr(space, field)
            after = _kept(before, kind, excluded)
            if after == before:
                continue
            if (not after and field != "partners") or () in after:
                names = ", ".join(sorted(excluded))
                raise SpaceError(f"space {space.name!r} has no {field} left without {names}; add others, or change the target")
            data[field] = after
    if data.get("partners", True) == ():
        data["splits"] = (1.0,)
    try:
        return SearchSpace.from_mapping(data, space) if data else space
    except SpaceError as error:
        raise SpaceError(f"space {space.name!r} cannot do without {', '.join(sorted(excluded))}: {error}") from error


def _kept(value: tuple[Any, ...], kind: Kind, excluded: Collection[str]) -> tuple[Any, ...]:
    """The names of a field, one tuple or one a stage, that are not excluded."""
    if value and isinstance(value[0], tuple):
        return tuple(_kept(stage, kind, excluded) for stage in value)
    return tuple(text for text in value if f"{kind}:{Op.parse(text).name}" not in excluded)
