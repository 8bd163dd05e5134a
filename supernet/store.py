"""The parameter store: for each slot and family of operators, one tensor as large as the largest choice needs."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.search_spaces import graph
from nas.search_spaces.anchored import SpaceAround
from nas.search_spaces.architecture import Op
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node, branch_widths
from nas.search_spaces.registry import Kind, Settings, operator
from nas.search_spaces.space import SearchSpace
from nas.search_spaces.surroundings import downsamples_of, head_of, stem_of
from nas.supernet.sharing import EVERYTHING, Sharing
from nas.supernet.skeleton import Share, skeleton_of
from nas.supernet.variety import Shapes, Variety
from nas.supernet.views import slices, union


@dataclass(frozen=True, slots=True)
class Tenant:
    """A node that may stand at a slot, and what it needs there."""

    node: Node
    shares: tuple[Share, ...]

    def covers(self, other: Tenant) -> bool:
        """Whether its parameters have room for all of another's."""
        mine = {share.key: share.shape for share in self.shares}
        return all(share.key in mine and union(mine[share.key], share.shape) == mine[share.key] for share in other.shares)


def parameter_store(
    space: SearchSpace, num_classes: int, in_channels: int, seed: int, sharing: Sharing = EVERYTHING
) -> nn.ParameterDict:
    """All shared tensors of a space, initialised as the operators initialise themselves, `sharing` saying who shares them.

    Where no single choice is the largest in every dimension, the larger ones are written over the smaller.
    """
    store = nn.ParameterDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for slot in slots(space, num_classes, in_channels, sharing):
            for tenants in _by_owner(slot):
                _allocate(store, tenants)
    return store


def slots(space: SearchSpace, num_classes: int, in_channels: int, sharing: Sharing = EVERYTHING) -> Iterator[list[Tenant]]:
    """For each slot of the largest member, every node that may stand there."""
    if isinstance(space, SpaceAround):
        yield from _slots_around(space, num_classes, in_channels, sharing)
        return
    for op, norm, side, width in itertools.product(space.stems, space.norms, space.resolutions, space.widths[0]):
        stem = stem_of(space, op, width, side)
        assert stem is not None, "a space is refused where a stem cannot work"
        yield [_tenant(_node("stem", Kind.STEM, stem, norm, (side, side, in_channels), (1, 1, width)), sharing)]
    variety = Variety(space, shapes_of)
    for stage, depths in enumerate(space.depths):
        yield from _stage(space, variety, stage, max(depths), sharing)
    last = space.maps_of(len(space.depths) - 1)
    for op, norm, width, at in itertools.product(space.heads, space.norms, space.widths[-1], last):
        head = head_of(space, op, width, at.side)
        assert head is not None, "a space is refused where a head cannot work"
        node = _node("head", graph.HEAD, head, norm, (at.height, at.width, width), (1, 1, num_classes))
        yield [_tenant(node, sharing)]


def _slots_around(space: SpaceAround, num_classes: int, in_channels: int, sharing: Sharing) -> Iterator[list[Tenant]]:
    """The nodes of members that together need as much room as all."""
    found: defaultdict[str, dict[str, Tenant]] = defaultdict(dict)
    for member in space.covering():
        for node in graph.nodes(member, None, in_channels, num_classes):
            if node.key not in found[node.slot]:
                found[node.slot][node.key] = _tenant(node, sharing)
    yield from (list(tenants.values()) for tenants in found.values())


def shapes_of(kind: Kind, name: str, settings: Settings, width: int, size: int) -> Shapes:
    """The names and shapes of a mixer's parameters at a place."""
    shape = (size, size, width)
    shares = skeleton_of(_node("block", kind, Op(name, settings), "none", shape, shape, "plain"))[1]
    return frozenset((share.key, share.shape) for share in shares)


def _stage(space: SearchSpace, variety: Variety, stage: int, depth: int, sharing: Sharing) -> Iterator[list[Tenant]]:
    if stage > 0:
        yield from _downsamples(space, stage, sharing)
    template = list(_block_nodes(space, variety, stage, sharing))
    known = {node.key + node.slot: skeleton_of(node, sharing)[1] for node in template}
    for block in range(depth):
        prefix = f"s{stage}b{block}"
        tenants = []
        for node in template:
            parts = tuple(
                Share(share.local, share.key.replace("block", prefix, 1), share.shape, share.modes)
                for share in known[node.key + node.slot]
            )
            tenants.append(Tenant(node, parts))
        yield tenants
    for text, width in itertools.product(space.residuals, space.widths[stage]):
        name = Op.parse(text).name
        if operator(Kind.RESIDUAL, name).side:
            shape = (1, 1, width)
            yield [_tenant(_node(f"s{stage}_end", Kind.RESIDUAL, Op(name), "", shape, shape), sharing)]


def _downsamples(space: SearchSpace, stage: int, sharing: Sharing) -> Iterator[list[Tenant]]:
    """Every downsample with all its settings, and with the first of them in all norms."""
    places = itertools.product(space.widths[stage - 1], space.widths[stage], space.downsamples, space.maps_of(stage - 1))
    for before, after, name, at in places:
        for index, down in enumerate(downsamples_of(space, name, after, at, space.stride_of(stage))):
            for norm in space.norms if index == 0 else space.norms[:1]:
                shape = (at.height, at.width, before)
                node = _node(f"s{stage}_downsample", Kind.DOWNSAMPLE, down, norm, shape, (1, 1, after))
                yield [_tenant(node, sharing)]


def _block_nodes(space: SearchSpace, variety: Variety, stage: int, sharing: Sharing) -> Iterator[Node]:
    """The nodes that a block of a stage needs room for, at the slots `block_mixer`, `block_partner` and `block_channel`.

    The norm before two branches is that of any mixer there, unless norms are kept apart.
    """
    joining = [residual for residual in space.residuals if graph.joins_branches(Op.parse(residual).name)]
    for width, at in itertools.product(space.widths[stage], space.maps_of(stage)):
        shape = (at.height, at.width, width)
        for kind, slot, ops in (
            (Kind.TOKEN_MIXER, "block_mixer", space.mixers[stage]),
            (Kind.CHANNEL_MIXER, "block_channel", space.channel_mixers),
        ):
            for op in ops:
                yield from _operators(space, slot, kind, op, variety.of(kind, op, width, at.side), shape)
        parts = [branch_widths(width, split) for split in space.splits if split < 1.0 and width >= 16] if joining else []
        firsts, seconds = {first for first, _ in parts}, {second for _, second in parts}
        for residual in joining if parts else ():
            yield _node("block_mixer", graph.CONCAT, Op("add"), "", shape, shape, residual)
        for norm in space.norms if parts and sharing.norms else ():
            yield _node("block_mixer", graph.SPLIT, Op("norm"), norm, shape, shape)
        for slot, names, widths in (("block_mixer", space.mixers[stage], firsts), ("block_partner", space.partners, seconds)):
            for op, part in itertools.product(names, widths):
                for settings in variety.of(Kind.TOKEN_MIXER, op, part, at.side):
                    branch = (at.height, at.width, part)
                    yield _node(slot, graph.BRANCH, Op(op, settings), "", branch, branch)


def _operators(
    space: SearchSpace, slot: str, kind: Kind, name: str, every: tuple[Settings, ...], shape: graph.Shape
) -> Iterator[Node]:
    """An operator with the settings that need room, and with the first of them in all norms and residuals.

    The parameters of a norm do not depend on the operator behind it, and those of a residual on neither, unless it norms
    what the operator gives.
    """
    for settings in every:
        yield _node(slot, kind, Op(name, settings), space.norms[0], shape, shape, space.residuals[0])
    for norm, residual in itertools.product(space.norms, space.residuals if every else ()):
        if residual == space.residuals[0] or norm == space.norms[0] or not graph.joins_branches(Op.parse(residual).name):
            yield _node(slot, kind, Op(name, every[0]), norm, shape, shape, residual)


def _node(slot: str, kind: str, op: Op, norm: str, in_shape: graph.Shape, out_shape: graph.Shape, residual: str = "") -> Node:
    channels = (0, in_shape[2]) if kind == graph.BRANCH else None
    return Node(slot, slot, kind, op.name, op.settings, norm, in_shape, out_shape, (), channels, residual=residual)


def _tenant(node: Node, sharing: Sharing) -> Tenant:
    return Tenant(node, tuple(skeleton_of(node, sharing)[1]))


def _by_owner(tenants: list[Tenant]) -> list[list[Tenant]]:
    """Tenants grouped by the family whose tensors they share, without those that another one has room for."""
    groups: defaultdict[frozenset[str], list[Tenant]] = defaultdict(list)
    for tenant in tenants:
        owners = frozenset(share.key for share in tenant.shares)
        largest = groups[owners]
        if not any(other.covers(tenant) for other in largest):
            groups[owners] = [other for other in largest if not tenant.covers(other)] + [tenant]
    return [sorted(group, key=_elements) for group in groups.values()]


def _elements(tenant: Tenant) -> int:
    return sum(torch.Size(share.shape).numel() for share in tenant.shares)


def _allocate(store: nn.ParameterDict, tenants: list[Tenant]) -> None:
    """Make room for all tenants of a family, then let each write its own initial values, the largest last."""
    for tenant in tenants:
        values = dict(module_of(tenant.node).named_parameters())
        for share in tenant.shares:
            known = store.get(share.key)
            shape = share.shape if known is None else union(tuple(known.shape), share.shape)
            tensor = known if known is not None and known.shape == shape else _grown(known, shape, share)
            with torch.no_grad():
                tensor[slices(tuple(tensor.shape), share.shape, share.modes)] = values[share.local]
            store[share.key] = tensor


def _grown(known: Tensor | None, shape: tuple[int, ...], share: Share) -> nn.Parameter:
    """A parameter of the larger shape that holds what was there in its place."""
    grown = torch.zeros(shape)
    if known is not None:
        grown[slices(shape, tuple(known.shape), share.modes)] = known.detach()
    return nn.Parameter(grown)
