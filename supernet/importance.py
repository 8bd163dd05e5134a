"""Putting hidden channels and heads in order of importance, so that leading slices keep the most important ones.

A symmetry is a set of places in the parameters of a module that may be permuted together without changing what the module
computes: the rows of one projection and the columns of the next. Operators declare theirs as
`symmetries = ((("expand.weight", 0), ("expand.bias", 0), ("reduce.weight", 1)),)`, channel by channel, and as
`head_symmetries`, head by head; those of one family with the same last place are one symmetry of their shared weights.
Permuting changes no network that uses all of the channels, and gives smaller ones the best of them (Cai et al. 2020,
Once-for-All, arXiv:1908.09791, section 3.3: in the order of the L1 norms of the weights that read the channels, which is the
last place).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nas.search_spaces.registry import Kind, Operator, operator
from nas.search_spaces.space import SearchSpace
from nas.supernet.supernet import Supernet

Place = tuple[str, int]
"""A parameter's name, and the dimension of it that is permuted."""
_NOT_OF_HEADS = frozenset({"reduce", "norm", "out"})
"""Parameters of attention that act before its map is cut into heads, or after it is joined."""
_ALIKE_IN_HEADS = frozenset({"none", "table"})
"""Position priors that treat all heads alike but for what their parameters hold."""


@dataclass(frozen=True)
class Symmetry:
    """Places in the store that are permuted together in `blocks` equal blocks, the last of which decides the order."""

    places: tuple[Place, ...]
    blocks: int


def reorder(supernet: Supernet, companions: Iterable[Mapping[str, Tensor]] = ()) -> int:
    """Permute the store, and the tensors that `companions` (moments, averages) hold under its names.

    Returns how many symmetries were put in order.
    """
    beside, found = list(companions), list(symmetries(supernet))
    store: Mapping[str, Tensor] = dict(supernet.store.items())
    for symmetry in found:
        order = _order(supernet, symmetry)
        for key, axis in symmetry.places:
            for tensors in (store, *beside):
                if key in tensors:
                    with torch.no_grad():
                        tensors[key].copy_(tensors[key].index_select(axis, _spread(order, tensors[key].shape[axis])))
    return len(found)


def symmetries(supernet: Supernet) -> Iterator[Symmetry]:
    """What the operators of the space declare, at every slot where the store holds it."""
    store = supernet.store
    for (kind, family, reader), (places, blocks) in declared(supernet.space).items():
        ending = f"/{family}/{reader[0].replace('.', '/')}"
        for key in [key for key in store if key.endswith(ending) and _is_of(key, kind)]:
            owner = key.removesuffix(reader[0].replace(".", "/"))
            named = [(owner + name.replace(".", "/"), axis) for name, axis in (*places, reader)]
            present = tuple((name, axis) for name, axis in named if name in store)
            number = blocks or store[key].shape[reader[1]]
            known = {name for name, _ in named}
            rest = {
                name.removeprefix(owner).partition("/")[0] for name in store if name.startswith(owner) and name not in known
            }
            if all(store[name].shape[axis] % number == 0 for name, axis in present) and (blocks == 0 or rest <= _NOT_OF_HEADS):
                yield Symmetry(present, number)


def declared(space: SearchSpace) -> dict[tuple[Kind, str, Place], tuple[list[Place], int]]:
    """By kind, family and last place, the other places that the operators of a space declare for it, and the blocks.

    0 blocks: channel by channel. Heads are permuted in as many blocks as the fewest heads of the space, so that a block
    holds whole heads whatever their number.
    """
    places: defaultdict[tuple[Kind, str, Place], list[Place]] = defaultdict(list)
    blocks: defaultdict[tuple[Kind, str, Place], int] = defaultdict(int)
    exchangeable: dict[tuple[Kind, str], bool] = {}
    for op in _operators(space):
        channels, heads = getattr(op.module, "symmetries", ()), getattr(op.module, "head_symmetries", ())
        exchangeable[op.kind, op.family] = exchangeable.get((op.kind, op.family), True) and _alike(space, op)
        fewest = min((int(v) for v in space.choices_of(op.kind, op.name).get("heads", ())), default=1)
        for declaration, number in (*((each, 0) for each in channels), *((each, fewest) for each in heads)):
            where = op.kind, op.family, declaration[-1]
            places[where].extend(place for place in declaration[:-1] if place not in places[where])
            blocks[where] = min(number, blocks[where] or number)
    return {
        where: (found, blocks[where])
        for where, found in places.items()
        if blocks[where] == 0 or (blocks[where] > 1 and exchangeable[where[:2]])
    }


def _alike(space: SearchSpace, op: Operator) -> bool:
    """Whether an operator's heads may be exchanged whatever the space chooses for it."""
    if not getattr(op.module, "head_symmetries", ()):
        return "heads" not in op.settings or op.family != "attention"
    position = op.settings.get("position")
    listed = space.choices_of(op.kind, op.name).get("position", () if position is None else (position.default,))
    return all(choice in _ALIKE_IN_HEADS for choice in listed)


def _operators(space: SearchSpace) -> Iterator[Operator]:
    mixers = {name for names in space.mixers for name in names} | set(space.partners)
    yield from (operator(Kind.TOKEN_MIXER, name) for name in sorted(mixers))
    yield from (operator(Kind.CHANNEL_MIXER, name) for name in sorted(set(space.channel_mixers)))


def _is_of(key: str, kind: Kind) -> bool:
    return key.partition("/")[0].endswith("_channel") == (kind == Kind.CHANNEL_MIXER)


def _order(supernet: Supernet, symmetry: Symmetry) -> Tensor:
    """The blocks, the most important first."""
    name, dimension = symmetry.places[-1]
    weight = supernet.store[name].detach().abs()
    channels = weight.sum([axis for axis in range(weight.ndim) if axis != dimension])
    return channels.view(symmetry.blocks, -1).sum(1).argsort(descending=True, stable=True)


def _spread(order: Tensor, length: int) -> Tensor:
    """The order of the channels of a dimension of that length, from the order of its blocks."""
    part = length // len(order)
    return (order[:, None] * part + torch.arange(part, device=order.device)).flatten()
