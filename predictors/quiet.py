"""Quiet times: the runs of a network that nothing disturbed, against the runs of the anchor that nothing disturbed.

What disturbs a machine only ever adds time, to some runs much and to others nothing, so that the lower end of many runs
repeats itself far better than their middle. How slow the machine was meanwhile is told by the lower end of the anchor's runs
within a second, by like against like. Times told so tell networks apart; how much is added on the whole is told by medians,
so a table tells its networks' quiet times at one common factor, at which they are medians again (`LatencyTable.latency`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from nas.predictors.timings import Array, Measurement, Visit

QUIET = 0.2
"""The share of runs that count as undisturbed: told is the largest of them. Of two sessions hours apart, eager or in ONNX
Runtime, 0.1 to 0.25 agreed best, and less is too few of the twenty runs of a large network."""
WITHIN = 1.0
"""Seconds before and after a visit from which the anchor's runs tell how slow the machine was."""


def with_quiet(found: Sequence[Measurement], visits: Sequence[Sequence[Visit]], reference: float | None) -> list[Measurement]:
    """The measurements of networks that were visited in turn, with their quiet times where the anchor ran beside them.

    `reference` is the anchor's time (seconds) at which all times are told, by default its median beside these networks.
    """
    seen = list(chain.from_iterable(visits))
    if not all(visit.beside for visit in seen):
        return list(found)
    level = anchor_level(seen)
    told = reference or float(np.median(np.concatenate([visit.beside for visit in seen])))
    return [replace(one, quiet=quiet_seconds(own, level) * told) for one, own in zip(found, visits, strict=True)]


def quiet_seconds(visits: Sequence[Visit], level: Callable[[float], float]) -> float:
    """The quiet time of one network in units of the anchor's, whose `level` at a moment is given."""
    runs = np.concatenate([np.asarray(visit.seconds) / level(visit.at) for visit in visits])
    return float(np.quantile(runs, QUIET))


def anchor_level(visits: Sequence[Visit]) -> Callable[[float], float]:
    """The anchor's quiet time (seconds) as a function of the moment (seconds since 1970), by its runs beside all visits."""
    readings = sorted((visit.at, one) for visit in visits for one in dict.fromkeys(visit.beside))
    at, seconds = np.array([moment for moment, _ in readings]), np.array([one for _, one in readings])

    def level(moment: float) -> float:
        near: Array = seconds[np.searchsorted(at, moment - WITHIN) : np.searchsorted(at, moment + WITHIN, side="right")]
        return float(np.quantile(near, QUIET))

    return level
