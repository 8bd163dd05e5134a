"""How many bytes the weights of a network take, known before it is built."""

from __future__ import annotations

from nas.predictors.latency_table import LatencyTable
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import module_of
from nas.search_spaces.graph import Node, nodes

_CACHE: dict[str, int] = {}


def weight_bytes(architecture: Architecture, table: LatencyTable) -> int:
    """Bytes of the weights (fp32) of a network with the table's channels and classes, as the sum over its nodes, of which each
    distinct one is built once a process."""
    return sum(map(_node_bytes, nodes(architecture, None, table.in_channels, table.num_classes)))


def _node_bytes(node: Node) -> int:
    key = node.key
    if key not in _CACHE:
        _CACHE[key] = sum(item.nbytes for item in module_of(node).parameters())
    return _CACHE[key]
