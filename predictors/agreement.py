"""Do two profiles of the same target agree? The check that what was measured today would be measured again tomorrow."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas.errors import UsageError
from nas.predictors.assessment import spearman
from nas.predictors.environment import differences
from nas.predictors.latency_table import LatencyTable

MIN_NETWORKS = 5
MAX_SHIFT = 0.03
MAX_DEVIATION = 0.10
MIN_SPEARMAN = 0.98


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two profiles compared over the `networks` that both measured.

    `ratio` is the median of second / first, `shift` the same at one speed of the machine, `deviation` the 90th percentile of
    how far single ratios are from their median, relative to it, `spearman` the rank correlation, and `anchor` the second
    anchor's time / the first's: how the machine itself changed, of which networks feel `part` of the logarithm. `node_ratio` is
    the median ratio of the `nodes` that both timed. `reasons` say why they do not agree.
    """

    networks: int
    ratio: float
    shift: float
    deviation: float
    spearman: float
    anchor: float
    part: float
    nodes: int
    node_ratio: float | None
    reasons: tuple[str, ...]

    @property
    def agree(self) -> bool:
        """Medians at one speed within MAX_SHIFT, single networks within MAX_DEVIATION, the order the same to MIN_SPEARMAN."""
        return not self.reasons

    def to_mapping(self) -> dict[str, Any]:
        """The fields and the verdict by name, fit for JSON."""
        return {**asdict(self), "agree": self.agree}

    def lines(self) -> list[str]:
        """The comparison and its verdict, for people."""
        told = [
            f"{self.networks} networks in both: median ratio {self.shift:.3f} at one speed of the machine, nine of ten within "
            f"{self.deviation:.1%} of it, Spearman {self.spearman:.3f}",
            f"the machine itself, by the anchor, took {self.anchor:.3f} times as long",
        ]
        if self.node_ratio is not None:
            ratio = self.node_ratio / self.anchor**self.part
            told.append(f"{self.nodes} node times in both: median ratio {ratio:.3f} at one speed of the machine")
        return [*told, "they agree" if self.agree else f"they do not agree: {'; '.join(self.reasons)}"]


def compare(first: LatencyTable, second: LatencyTable) -> Agreement:
    """Compare two tables of one target. Raises UsageError for other targets, or with fewer than MIN_NETWORKS in both."""
    if first.target != second.target:
        raise UsageError(f"the tables are of {first.target} and of {second.target}; only profiles of one target can agree")
    digests = sorted(first.networks.keys() & second.networks.keys())
    if len(digests) < MIN_NETWORKS:
        raise UsageError(
            f"the tables have {len(digests)} networks in common, a comparison needs {MIN_NETWORKS}; "
            "profile the same space with the same --seed"
        )
    pairs = [table.latency([table.networks[digest] for digest in digests]) for table in (first, second)]
    ratios = np.divide(pairs[1], pairs[0])
    middle = float(np.median(ratios))
    anchor, part = (second.anchor or 1.0) / (first.anchor or 1.0), _part(first, second)
    keys = sorted(first.nodes.keys() & second.nodes.keys())
    samples = [[float(np.median(table.nodes[key].samples)) for key in keys] for table in (first, second)]
    found = Agreement(
        networks=len(digests),
        ratio=middle,
        shift=middle / anchor**part,
        deviation=float(np.quantile(np.abs(ratios / middle - 1), 0.9)),
        spearman=spearman(pairs[0], pairs[1]),
        anchor=anchor,
        part=part,
        nodes=len(keys),
        node_ratio=float(np.median(np.divide(samples[1], samples[0]))) if keys else None,
        reasons=(),
    )
    return Agreement(**{**asdict(found), "reasons": _reasons(found, first, second)})


def _part(first: LatencyTable, second: LatencyTable) -> float:
    """How much of the logarithm of the anchor's slowness networks of both tables feel: the mean of what was found."""
    found = [table.part for table in (first, second) if table.part is not None]
    return sum(found) / len(found) if found else first.felt


def _reasons(found: Agreement, first: LatencyTable, second: LatencyTable) -> tuple[str, ...]:
    reasons = []
    if abs(found.shift - 1) > MAX_SHIFT:
        reasons.append(f"the second is {found.shift:.3f} times the first at one speed of the machine (limit {MAX_SHIFT:.0%})")
    if found.deviation > MAX_DEVIATION:
        reasons.append(f"single networks differ by {found.deviation:.1%} from the median ratio (limit {MAX_DEVIATION:.0%})")
    if found.spearman < MIN_SPEARMAN:
        reasons.append(f"the order of the networks differs, Spearman {found.spearman:.3f} (limit {MIN_SPEARMAN})")
    if reasons:
        reasons += [f"environment: {text}" for text in differences(first.environment, second.environment)]
    return tuple(reasons)
