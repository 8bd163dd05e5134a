"""What to do where a runtime cannot run a network: name the operator that is to blame, and how much of the space has it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nas.errors import MeasurementError
from nas.predictors.measure import run_once
from nas.predictors.node_timing import Repeated, node_example
from nas.predictors.target import Target
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.exclusion import operators_in, traits
from nas.search_spaces.graph import Node, nodes
from nas.search_spaces.space import SearchSpace

SAMPLED = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """An operator, as `kind:name`, that a target refuses, the runtime's reason, and the share of the space that has it."""

    label: str
    reason: str
    share: float


def refusals(
    architecture: Architecture, space: SearchSpace, target: Target, in_channels: int, num_classes: int
) -> list[Refusal]:
    """The operators to blame for a network that the target refuses; none where each of its nodes runs alone.

    Raises MeasurementError where none of its nodes runs: then it is not the operators' fault.
    """
    reasons: dict[Node, str] = {}
    passed: list[Node] = []
    for node in {item.key: item for item in nodes(architecture, None, in_channels, num_classes)}.values():
        try:
            run_once(Repeated(node, 1), node_example(node, target.batch), target)
            passed.append(node)
        except MeasurementError as error:
            reasons[node] = str(error)
    if not passed:
        raise MeasurementError(f"{target} runs nothing of network {architecture.digest}: {next(iter(reasons.values()))}")
    blamed = blame({node: traits(node) for node in reasons}, [traits(node) for node in passed])
    shares = share_of(space, blamed)
    return [
        Refusal(label, next(text for node, text in reasons.items() if label in traits(node)), shares[label]) for label in blamed
    ]


def blame(refused: Mapping[Node, frozenset[str]], passed: Iterable[frozenset[str]]) -> list[str]:
    """The fewest operators that explain why these nodes are refused, those first that explain most.

    An operator that also stands in a node that runs is blamed only where no other explains a refusal: with some settings it
    is refused, and it is by name that a space is told to do without it. Norms and residuals are never blamed then.
    """
    innocent = frozenset().union(*passed)
    left = dict(refused)
    found: list[str] = []
    while left:
        counts: dict[str, int] = {}
        for labels in left.values():
            for label in labels - innocent or {label for label in labels if not label.startswith(("norm:", "residual:"))}:
                counts[label] = counts.get(label, 0) + 1
        if not counts:
            break
        found.append(min(counts, key=lambda label: (-counts[label], label)))
        left = {node: labels for node, labels in left.items() if found[-1] not in labels}
    return found


def share_of(space: SearchSpace, labels: Iterable[str]) -> dict[str, float]:
    """About which share of the architectures of a space has each operator, from SAMPLED of them."""
    drawn = [operators_in(space.sample(random.Random(f"share:{index}"))) for index in range(SAMPLED)]
    return {label: sum(label in found for found in drawn) / SAMPLED for label in labels}
