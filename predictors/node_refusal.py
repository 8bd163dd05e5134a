"""What a target refuses while single nodes are timed: those nodes are left out, and the operators to blame are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nas.errors import MeasurementError
from nas.predictors.latency_table import LatencyTable
from nas.predictors.measure import run_once
from nas.predictors.network_profile import DeviceLostError
from nas.predictors.node_timing import Repeated, node_example
from nas.predictors.refusal import blame, share_of
from nas.search_spaces.exclusion import traits
from nas.search_spaces.graph import Node
from nas.search_spaces.space import SearchSpace


@dataclass
class NodeRefusals:
    """The nodes, with the target's reasons, that do not run alone, and those that do although they could not be timed."""

    space: SearchSpace
    table: LatencyTable
    reasons: dict[Node, str] = field(default_factory=dict)
    passed: set[Node] = field(default_factory=set)

    def look(self, found: Sequence[Node], error: MeasurementError) -> None:
        """Run each of some nodes, which could not be timed, alone. Raises DeviceLostError where nothing runs any more.

        Nodes for a target at another place are timed on this machine, which says nothing of what the target refuses.
        """
        table = self.table
        if table.target.place:
            return
        before = len(self.reasons)
        for node in found:
            if node.key not in table.nodes and node not in self.passed and node not in self.reasons:
                self._try(node)
        known = next(iter(table.nodes.values()), None)
        if len(self.reasons) > before and known is not None and self._refusal(known.node) is not None:
            raise DeviceLostError(str(error)) from error

    def record(self) -> None:
        """Name the operators to blame in the table. Raises DeviceLostError where not a single node ran.

        Operators of nodes that ran are not to blame, whatever the settings: where they are refused, whole networks show it.
        """
        table = self.table
        ran = [traits(item.node) for item in table.nodes.values()] + [traits(node) for node in self.passed]
        if self.reasons and not ran:
            raise DeviceLostError(f"{table.target} runs no node of space {table.space!r}: {next(iter(self.reasons.values()))}")
        innocent = frozenset().union(*ran)
        refused = {node: traits(node) for node in self.reasons if not traits(node) <= innocent}
        blamed = [label for label in blame(refused, ran) if label not in table.refused]
        shares = share_of(self.space, blamed) if blamed else {}
        for label in blamed:
            why = next(self.reasons[node] for node, labels in refused.items() if label in labels)
            table.refused[label] = {"reason": why, "share": shares[label]}

    def _try(self, node: Node) -> None:
        why = self._refusal(node)
        if why is None:
            self.passed.add(node)
        else:
            self.reasons[node] = why

    def _refusal(self, node: Node) -> str | None:
        """Why the target does not run a node, None where it does."""
        try:
            run_once(Repeated(node, 1), node_example(node, self.table.target.batch), self.table.target)
        except MeasurementError as error:
            return str(error)
        return None
