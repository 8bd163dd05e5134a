"""What a reader of a latency table should know: noise, changes of the machine, and what the target refuses."""

from __future__ import annotations

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
    middle, slow = found[len(found) // 2], sorted(item.slowed for item in found)[len(found) // 2]
    told = []
    if middle.spread > MAX_SPREAD:
        reasons = ", ".join(noise_reasons(middle)) or "why cannot be told"
        told.append(f"the measurements are noisy, they spread by {middle.spread:.0%} of their median: {reasons}")
    if unsettled := sum(item.unsettled for item in found):
        told.append(
            f"{unsettled} of {len(found)} networks were measured although their times still changed at the end of the warm-up; "
            "these are less certain than their intervals say"
        )
    if slow > SLOWED:
        told.append(
            f"the machine was {slow:.2f} times slower than when the profile began, also after waiting for it (heat, clock or "
            "other work); times are told at the speed of the beginning"
        )
    return told
