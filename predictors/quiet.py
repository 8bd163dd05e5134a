"""Quiet times: what networks take on a machine at the pace of the reference, from runs on a machine that changes it.

What disturbs a machine slows a network and the anchor just before and after it, but not by the same factor: of `mobile` on a
shared host, in eager mode and in ONNX Runtime, the logarithm of a run moved by 0.5 to 0.8 of the anchor's. A run divided by the
whole factor therefore bears the anchor's moods with the opposite sign. Told by this share of them, and by the median of all
runs, two sessions differed by a quarter less than by medians of whole factors, and two halves of one by nearly a half. Times
told so tell networks apart; how much a usual machine adds on the whole is told by medians, so a table tells its networks' quiet
times at one common factor, at which they are medians again (`LatencyTable.latency`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from nas.predictors.timings import Measurement, Visit, felt


def with_quiet(found: Sequence[Measurement], visits: Sequence[Sequence[Visit]], reference: float | None) -> list[Measurement]:
    """The measurements of networks that were visited in turn, with their quiet times where the anchor ran beside them.

    `reference` is the anchor's time (seconds) at which all times are told, by default its median beside these networks.
    """
    seen = list(chain.from_iterable(visits))
    if not all(visit.beside for visit in seen):
        return list(found)
    told = reference or float(np.median(np.concatenate([visit.beside for visit in seen])))
    return [replace(one, quiet=quiet_seconds(own, told, felt(one.target))) for one, own in zip(found, visits, strict=True)]


def quiet_seconds(visits: Sequence[Visit], reference: float, part: float) -> float:
    """The quiet time (seconds) of one network, which feels this part of the anchor's slowness, where the anchor takes
    `reference` seconds."""
    runs = [np.asarray(visit.seconds) * (reference / np.asarray(visit.beside)) ** part for visit in visits]
    return float(np.median(np.concatenate(runs)))
