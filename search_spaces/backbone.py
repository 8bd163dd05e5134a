"""The builder: from the graph of an architecture to a plain `nn.Module`."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from nas.errors import SpaceError
from nas.search_spaces import graph, layers
from nas.search_spaces.architecture import LAYER_SCALE, Architecture, Op
from nas.search_spaces.graph import IMAGE, Node, nodes
from nas.search_spaces.registry import Kind, operator


class FeatureInfo:
    """What each returned map is, with timm's names: `channels()`, `reduction()`, `module_name()`, `get_dicts()`."""

    def __init__(self, info: list[dict[str, Any]]) -> None:
        self.info = info

    def channels(self) -> list[int]:
        """Channels of each map."""
        return [entry["num_chs"] for entry in self.info]

    def reduction(self) -> list[int]:
        """Stride of each map with respect to the image."""
        return [entry["reduction"] for entry in self.info]

    def module_name(self) -> list[str]:
        """The node that yields each map."""
        return [entry["module"] for entry in self.info]

    def get_dicts(self) -> list[dict[str, Any]]:
        """One dictionary a map: `num_chs`, `reduction`, `module`."""
        return [dict(entry) for entry in self.info]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)


class Backbone(nn.Module):
    """The network of an architecture.

    `nodes` maps node names to modules, `plan` lists each node with what it reads, `emits` names what nodes give beside their
    maps. Forward takes (B, in_channels, H, W) of any height and width that the total stride leaves at least one position of,
    and returns logits (B, num_classes), or with `features_only` the list of stage maps (B, C, H/stride, W/stride) that
    `feature_info` describes. `make` builds the module of a node (default: `module_of`).
    """

    def __init__(
        self,
        architecture: Architecture,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        features_only: bool = False,
        make: Callable[[Node], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.feature_info = FeatureInfo(_feature_info(architecture)) if features_only else None
        self.nodes = nn.ModuleDict()
        self.plan: list[tuple[str, tuple[str, ...]]] = []
        self.emits: dict[str, str] = {}
        for node in nodes(architecture, None, in_channels, num_classes):
            if node.kind != graph.HEAD or not features_only:
                self.nodes[node.name] = (make or module_of)(node)
                self.plan.append((node.name, node.inputs))
                if node.emits:
                    self.emits[node.name] = f"{node.name}:{node.emits}"

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits, or the maps of a feature pyramid."""
        values = {IMAGE: image}
        for name, inputs in self.plan:
            self.run_node(name, inputs, values)
        if self.feature_info is None:
            return values[self.plan[-1][0]]
        return [values[name].permute(0, 3, 1, 2) for name in self.feature_info.module_name()]

    def run_node(
        self, name: str, inputs: tuple[str, ...], values: dict[str, Tensor], call: Callable[..., Any] | None = None
    ) -> None:
        """Run a node of the plan, or `call` in its place, on the `values` of those before it, and add what it gives."""
        found = (call or self.nodes[name])(*(values[source] for source in inputs))
        if isinstance(found, tuple):
            found, values[self.emits[name]] = found
        values[name] = found


def build(
    architecture: Architecture, num_classes: int = 1000, in_channels: int = 3, *, features_only: bool = False
) -> Backbone:
    """The plain module of an architecture, with fresh weights. Raises SpaceError where a setting is illegal."""
    if num_classes < 1 or in_channels < 1:
        raise SpaceError(f"num_classes={num_classes} and in_channels={in_channels} must be at least 1")
    return Backbone(architecture, num_classes, in_channels, features_only=features_only)


def module_of(node: Node) -> nn.Module:
    """The module that does the work of one node."""
    (_, _, in_width), width = node.in_shape, node.out_shape[2]
    match node.kind:
        case graph.CONCAT:
            return _concat(node, width)
        case graph.BRANCH:
            assert node.channels is not None
            return layers.Branch(_operator(Kind.TOKEN_MIXER, node, in_width, node.size), *node.channels)
        case graph.CONTEXT:
            return layers.Context(in_width, width) if node.operator == "linear" else layers.Resized()
        case Kind.RESIDUAL:
            return _residual(Op(node.operator, node.settings), nn.Identity(), nn.Identity(), width)
    assert node.norm, f"node {node.name} of kind {node.kind} has no norm"
    norm = norm_of(node.norm)
    match node.kind:
        case Kind.STEM:
            return layers.Stem(_mapping(Kind.STEM, node), norm(width))
        case Kind.DOWNSAMPLE:
            return layers.Downsample(norm(in_width), _mapping(Kind.DOWNSAMPLE, node))
        case graph.SPLIT | Kind.NORM:
            return layers.Normed(norm(width))
        case graph.PROJECTION:
            return layers.Projection(norm(in_width), in_width, width)
        case graph.HEAD:
            return operator(Kind.HEAD, node.operator).module(norm, in_width, node.size, width, **dict(node.settings))
    mixer = _operator(Kind(node.kind), node, in_width, node.size)
    return _residual(Op.parse(node.residual), norm(width), mixer, width)


def norm_of(text: str) -> Callable[[int], nn.Module]:
    """What makes the norm of a given width that a text such as `layer(eps=1e-05)` names."""
    norm = Op.parse(text)
    return partial(operator(Kind.NORM, norm.name).module, **dict(norm.settings))


def _concat(node: Node, width: int) -> nn.Module:
    residual = Op.parse(node.residual or str(LAYER_SCALE))
    if residual.name == LAYER_SCALE.name:
        return layers.Concat(width, float(dict(residual.settings).get("init", layers.SCALE)))
    module = _residual(residual, nn.Identity(), nn.Identity(), width)
    assert isinstance(module, layers.Residual), f"{residual.name!r} joins no branches"
    return layers.Joined(module)


def _residual(residual: Op, norm: nn.Module, op: nn.Module, width: int) -> nn.Module:
    return operator(Kind.RESIDUAL, residual.name).module(norm, op, width, **dict(residual.settings))


def _operator(kind: Kind, node: Node, *sizes: int) -> nn.Module:
    return operator(kind, node.operator).module(*sizes, **dict(node.settings))


def _mapping(kind: Kind, node: Node) -> nn.Module:
    """A stem or downsample."""
    widths = node.in_shape[2], node.out_shape[2]
    return _operator(kind, node, *widths, *((node.size,) if operator(kind, node.operator).sized else ()))


def _feature_info(architecture: Architecture) -> list[dict[str, Any]]:
    """The last node of every stage, its channels and its stride."""
    last: dict[int, dict[str, Any]] = {}
    for node in nodes(architecture):
        if node.stage is not None:
            height, width, _ = node.out_shape
            stride = architecture.resolution // (math.isqrt(width) if height == 1 else height)
            last[node.stage] = {"num_chs": node.out_shape[2], "reduction": stride, "module": node.name}
    return list(last.values())
