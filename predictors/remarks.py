"""What a reader of a latency table should know: noise, changes of the machine, and what the target refuses."""

from __future__ import annotations

import numpy as np

from nas.predictors.latency_table import NETWORK, LatencyTable
from nas.predictors.timings import MAX_SPREAD, SLOWED, noise_reasons


def remarks(table: LatencyTable) -> list[str]:
    """One line for each thing; none for a quiet table of a target that runs the whole space and was timed node by node."""
    changed = [f"the machine changed between sessions: {text}" for text in table.breaks]
    inherited = [f"node times are inherited from {', '.join(table.ancestry)}, and not measured"] if table.ancestry else []
    return [*_refusals(table), *_noise(table), *changed, *inherited]


def _refusals(table: LatencyTable) -> list[str]:
    found = []
    for label, what in sorted(table.refused.items()):
        kind, _, name = label.partition(":")
        if label.startswith(NETWORK):
            found.append(
                f"{table.target} does not run network {name}, and no operator of it alone is to blame: {what['reason']}"
            )
        else:
            found.append(
                f"{table.target} refuses {kind.replace('_', ' ')} {name!r}, which {what['share']:.0%} of the architectures of "
                f"{table.space!r} have: it is left out of the space for this target ({what['reason']})"
            )
    return found


def _noise(table: LatencyTable) -> list[str]:
    found = sorted((item.measurement for item in table.networks.values()), key=lambda item: item.spread)
    if not found:
        return []
    middle, speeds = found[len(found) // 2], np.quantile([item.slowed for item in found], (0.1, 0.9))
    told = []
    if middle.spread > MAX_SPREAD:
        reasons = ", ".join(noise_reasons(middle)) or "why cannot be told"
        told.append(f"the measurements are noisy, they spread by {middle.spread:.0%} of their median: {reasons}")
    if unsettled := sum(item.unsettled for item in found):
        told.append(
            f"{unsettled} of {len(found)} networks were measured although their times still changed at the end of the warm-up; "
            "these are less certain than their intervals say"
        )
    if speeds[1] > SLOWED * speeds[0]:
        told.append(
            f"the speed of the machine changed by a factor of {speeds[1] / speeds[0]:.2f} during the profile (heat, clock or "
            "other work); times are told at its median speed"
        )
    return told
