"""The builder: from the graph of an architecture to a plain `nn.Module`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nas.errors import SpaceError
from nas.search_spaces import graph, layers
from nas.search_spaces.architecture import Architecture
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

    `nodes` maps node names to modules, `plan` lists each node with the nodes it reads. Forward takes (B, in_channels, H, W)
    of any height and width that the total stride leaves at least one position of, and returns logits (B, num_classes), or
    with `features_only` the list of stage maps (B, C, H/stride, W/stride) that `feature_info` describes. `make` builds the
    module of a node (default: `module_of`).
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
        for node in nodes(architecture, None, in_channels, num_classes):
            if node.kind != graph.HEAD or not features_only:
                self.nodes[node.name] = (make or module_of)(node)
                self.plan.append((node.name, node.inputs))

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Logits, or the maps of a feature pyramid."""
        values = {IMAGE: image}
        for name, inputs in self.plan:
            values[name] = self.nodes[name](*(values[source] for source in inputs))
        if self.feature_info is None:
            return values[self.plan[-1][0]]
        return [values[name].permute(0, 3, 1, 2) for name in self.feature_info.module_name()]


def build(
    architecture: Architecture, num_classes: int = 1000, in_channels: int = 3, *, features_only: bool = False
) -> Backbone:
    """The plain module of an architecture, with fresh weights. Raises SpaceError where a setting is illegal."""
    if num_classes < 1 or in_channels < 1:
        raise SpaceError(f"num_classes={num_classes} and in_channels={in_channels} must be at least 1")
    return Backbone(architecture, num_classes, in_channels, features_only=features_only)


def module_of(node: Node) -> nn.Module:
    """The module that does the work of one node."""
    width = node.out_shape[2]
    norm = operator(Kind.NORM, node.norm).module if node.norm else None
    if node.kind == graph.CONCAT:
        return layers.Concat(width)
    if node.kind == graph.BRANCH:
        assert node.channels is not None
        return layers.Branch(_mixer(Kind.TOKEN_MIXER, node), *node.channels)
    assert norm is not None, f"node {node.name} of kind {node.kind} has no norm"
    in_width = node.in_shape[2]
    if node.kind == Kind.STEM:
        stem = operator(Kind.STEM, node.operator).module(in_width, width, **dict(node.settings))
        return layers.Stem(stem, norm(width))
    if node.kind == Kind.DOWNSAMPLE:
        down = operator(Kind.DOWNSAMPLE, node.operator).module(in_width, width, **dict(node.settings))
        return layers.Downsample(norm(in_width), down)
    if node.kind == graph.SPLIT:
        return layers.Normed(norm(width))
    if node.kind == graph.PROJECTION:
        return layers.Projection(norm(in_width), in_width, width)
    if node.kind == graph.HEAD:
        return layers.Head(norm(in_width), in_width, width)
    return layers.Residual(norm(width), _mixer(Kind(node.kind), node), width)


def _mixer(kind: Kind, node: Node) -> nn.Module:
    return operator(kind, node.operator).module(node.in_shape[2], node.in_shape[0], **dict(node.settings))


def _feature_info(architecture: Architecture) -> list[dict[str, Any]]:
    """The last node of every stage, its channels and its stride."""
    last: dict[int, dict[str, Any]] = {}
    for node in nodes(architecture):
        if node.stage is not None:
            stride = architecture.resolution // node.out_shape[0]
            last[node.stage] = {"num_chs": node.out_shape[2], "reduction": stride, "module": node.name}
    return list(last.values())
