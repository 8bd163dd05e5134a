"""Quiet times: what networks take on a machine at the pace of the reference, from runs on a machine that changes it.

What disturbs a machine slows a network and the anchor just before and after it, but not by the same factor. How much of the
logarithm of the anchor's slowness networks feel hangs on them, on the runtime and on what disturbs: on one host those of
`mobile` in ONNX Runtime felt 0.8 of it, those of `tiny` all of it in eager mode and 1.2 in ONNX Runtime within the same hours,
where the clock changed; on another, where guests fought for its caches, both felt 0.5 to 0.8. So it is read off the rounds of
each group (`part_felt`). Told so instead of by 0.7 for all, `tiny` was predicted with a mean error of 3.3 instead of 4.0 % in
eager mode, and 5.2 instead of 10.8 % in ONNX Runtime, in a noisy hour and without companions. A quiet time is the median of all
runs. Times told so tell networks apart; how much a usual machine adds on the whole is told by medians, so a table tells its
networks' quiet times at one common factor, at which they are medians again (`LatencyTable.latency`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from nas.predictors.timings import Measurement, Speed, Visit, felt

NOISE, UNKNOWN, KNOWN = 0.1, 0.3, 0.1
"""Standard deviations: of the logarithm of what a round of one network is off by itself, and of the part that networks feel,
from machine to machine and space to space, and from group to group of one table."""
LEAST, MOST = 0.3, 1.5
ENOUGH = 8
"""Of fewer networks, chance tells more than what they feel."""


def with_quiet(found: Sequence[Measurement], visits: Sequence[Sequence[Visit]], speed: Speed | None) -> list[Measurement]:
    """The measurements of networks that were visited in turn, told by what they feel of the anchor and with their quiet times
    where it ran beside them.

    All times are told at `speed`; by default where the anchor takes its median beside these networks, and by what is usual of
    its slowness where that cannot be read off them.
    """
    seen = list(chain.from_iterable(visits))
    if not seen or not all(visit.beside for visit in seen):
        return list(found)
    anchor = float(np.median(np.concatenate([visit.beside for visit in seen]))) if speed is None else speed.anchor
    usual, known = felt(found[0].target), None if speed is None else speed.part
    part = usual if known is None else known
    if usual < 1:
        part = part_felt(visits, part, UNKNOWN if known is None else KNOWN)
    return [replace(one.told_by(part), quiet=quiet_seconds(own, anchor, part)) for one, own in zip(found, visits, strict=True)]


def part_felt(visits: Sequence[Sequence[Visit]], usual: float, uncertain: float = UNKNOWN) -> float:
    """How much of the logarithm of the anchor's slowness networks that were visited in turn feel: the slope of one upon the
    other from round to round, of the median network, drawn to the `usual` one the more the less certain it is, and the less
    the more `uncertain` that one is (its standard deviation).

    Single visits would tell too little: what a network of some hundredths of a second meets is over when the anchor runs.
    """
    moods: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for own in visits:
        slow = np.array([[np.median(np.log(visit.seconds)), np.median(np.log(visit.beside))] for visit in own])
        for visit, (network, anchor) in zip(own, slow - np.median(slow, 0), strict=True):
            moods[visit.round].append((network, anchor))
    if len(visits) < ENOUGH or len(moods) < 3:
        return usual
    rounds = np.array([np.median(both, 0) for both in moods.values()])
    network, anchor = (rounds - rounds.mean(0)).T
    if not anchor.any():
        return usual
    left = network - anchor * (network @ anchor) / (anchor @ anchor)
    doubt = max(float(left @ left) / (len(moods) - 2), NOISE**2 / len(visits)) / uncertain**2
    return float(np.clip((network @ anchor + doubt * usual) / (anchor @ anchor + doubt), LEAST, MOST))


def quiet_seconds(visits: Sequence[Visit], reference: float, part: float) -> float:
    """The quiet time (seconds) of one network, which feels this part of the anchor's slowness, where the anchor takes
    `reference` seconds."""
    runs = [np.asarray(visit.seconds) * (reference / np.asarray(visit.beside)) ** part for visit in visits]
    return float(np.median(np.concatenate(runs)))
