"""Quiet times: what networks take on a machine at the pace of the reference, from runs on a machine that changes it.

What disturbs a machine slows a network and the anchor just before and after it, but not by the same factor. How much of the
logarithm of the anchor's slowness networks feel hangs on them, on the runtime and on what disturbs: on one host those of
`mobile` felt 0.8 to 0.9 of it, those of `tiny` 1.1 in eager mode and 1.2 in ONNX Runtime within the same hours, where the clock
changed; on another, where guests fought for its caches, both felt 0.5 to 0.8. So it is read off the rounds of each group
(`part_felt`), and groups of one table hold to each other. Of 30 networks of `tiny` that were verified twice, 77
minutes apart on such a machine, the medians differ by 4 % told by what their table had found, and by 10 % told by 0.7. A quiet
time is the median of all runs. Times told so tell networks apart; how much a usual machine adds on the whole is told by
medians, so a table tells its networks' quiet times at one common factor, at which they are medians again
(`LatencyTable.latency`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from nas.predictors.timings import FELT, Measurement, Speed, Visit, summarise_visits, usual_part

NOISE, UNKNOWN, KNOWN = 0.1, 0.3, 0.1
"""Standard deviations: of the logarithm of what a round of one network is off by itself, and of the part that networks feel,
from machine to machine and space to space, and from group to group of one table."""
LEAST, MOST = 0.3, 1.5
ENOUGH = 8
"""Of fewer networks, chance tells more than what they feel."""


def summarise_group(
    visits: Sequence[Sequence[Visit]],
    anchors: Sequence[Visit],
    target: str,
    resolutions: Sequence[int],
    seed: int = 0,
    speed: Speed | None = None,
) -> list[Measurement]:
    """`summarise_visits` of networks that were visited in turn, with their quiet times where the anchor ran beside them.

    All times are told at `speed`, by default at that of the machine meanwhile, and by what these networks feel of the anchor's
    slowness, which is held to what is known of it.
    """
    reference, known = (None, None) if speed is None else (speed.anchor, speed.part)
    seen = list(chain.from_iterable(visits))
    apart = bool(seen) and all(visit.beside for visit in seen)
    usual = usual_part(target)
    part = part_felt(visits, known) if apart and usual < 1 else known
    found = [
        summarise_visits(own, anchors, target, side, seed, reference, part)
        for own, side in zip(visits, resolutions, strict=True)
    ]
    if not apart:
        return found
    told = reference or float(np.median(np.concatenate([visit.beside for visit in seen])))
    return [replace(one, quiet=quiet_seconds(own, told, one.felt)) for one, own in zip(found, visits, strict=True)]


def part_felt(visits: Sequence[Sequence[Visit]], known: float | None = None) -> float | None:
    """How much of the logarithm of the anchor's slowness networks that were visited in turn feel: the slope of one upon the
    other from round to round, of the median network, drawn to what is `known` of other groups, or else to FELT, the more the
    less certain it is. Of few networks, and where next to nothing changed, it is what is known.

    Single visits would tell too little: what a network of some hundredths of a second meets is over when the anchor runs.
    """
    moods: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for own in visits:
        slow = np.array([[np.median(np.log(visit.seconds)), np.median(np.log(visit.beside))] for visit in own])
        for visit, (network, anchor) in zip(own, slow - np.median(slow, 0), strict=True):
            moods[visit.round].append((network, anchor))
    if len(visits) < ENOUGH or len(moods) < 3:
        return known
    rounds = np.array([np.median(both, 0) for both in moods.values()])
    network, anchor = (rounds - rounds.mean(0)).T
    told = float(anchor @ anchor)
    if not told:
        return known
    left = network - anchor * (network @ anchor) / told
    doubt = max(float(left @ left) / (len(moods) - 2), NOISE**2 / len(visits))
    doubt /= UNKNOWN**2 if known is None else KNOWN**2
    if known is None and doubt > told:  # what is usual would weigh more than what was read
        return None
    usual = FELT if known is None else known
    return float(np.clip((network @ anchor + doubt * usual) / (told + doubt), LEAST, MOST))


def quiet_seconds(visits: Sequence[Visit], reference: float, part: float) -> float:
    """The quiet time (seconds) of one network, which feels this part of the anchor's slowness, where the anchor takes
    `reference` seconds."""
    runs = [np.asarray(visit.seconds) * (reference / np.asarray(visit.beside)) ** part for visit in visits]
    return float(np.median(np.concatenate(runs)))
