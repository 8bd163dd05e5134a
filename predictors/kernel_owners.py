"""Which node of a network a kernel of its optimised graph belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nas.predictors.tracing import scope_of


def kernel_owners(graph: Any, names: Sequence[str]) -> list[int]:
    """For each kernel of an ONNX graph with scoped names, the place among the node `names` of the one that it belongs to.

    A kernel that was fused of several has the name of what the last of them put out, or else of the first of them. A copy
    between layouts that an optimiser put in has neither: it belongs to the first node that reads it, which asks for the layout,
    or where it is read by none, to the one that it follows from.
    """
    place = {name: number for number, name in enumerate(names)}
    told: list[int | None] = []
    reader: dict[str, int] = {}
    for kernel in reversed(graph.node):
        found = _first(place, (scope_of(name) for name in (*kernel.output, kernel.name)))
        if found is None:
            found = min((reader[name] for name in kernel.output if name in reader), default=None)
        told.append(found)
        if found is not None:
            reader.update({name: min(found, reader.get(name, found)) for name in kernel.input})
    owners: list[int] = []
    maker: dict[str, int] = {}
    for kernel, found in zip(graph.node, reversed(told), strict=True):
        follows = max((maker[name] for name in kernel.input if name in maker), default=0)
        owners.append(follows if found is None else found)
        maker.update(dict.fromkeys(kernel.output, owners[-1]))
    return owners


def _first(place: Mapping[str, int], scopes: Iterable[str]) -> int | None:
    """The place of the first scope that is a node's."""
    return next((place[scope] for scope in scopes if scope in place), None)
