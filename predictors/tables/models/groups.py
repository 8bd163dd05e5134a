"""Amounts of networks as the columns that surrogates look at."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nas.predictors.surrogates.layout import AMOUNTS, SUMMARY
from nas.predictors.tables.models.amounts import LIBRARY_CLASSES, NAMES, OTHER_CLASSES, RATIOS, TILES
from nas.predictors.timings import Array

_PLACE = {name: place for place, name in enumerate(NAMES)}
_ONCE_A_STEP = np.array([name.endswith(".calls") or name == "weights" for name in NAMES])


def groups(amounts: Array, sizes: Array, batches: Array) -> dict[str, list[Array]]:
    """The columns by group, of amounts (n, len(NAMES)) of one image, image sizes (n,) and batches (n,).

    `amounts` are those of an image when it is one of a batch: weights are read, and kernels called, once for all of them.
    `summary` are logarithms of whole-network amounts, and which share of them each class of operation has.
    """
    of_image = np.where(_ONCE_A_STEP, amounts / batches[:, None], amounts)
    return {AMOUNTS: [of_image], SUMMARY: [*_logarithms(amounts, sizes, batches), *_shares(amounts)]}


def _logarithms(amounts: Array, sizes: Array, batches: Array) -> list[Array]:
    macs, moved, calls = (_total(amounts, what) for what in ("macs", "elements", "calls"))
    weights, fused = _one(amounts, "weights"), _one(amounts, "fused.elements")
    tiled = [_total(amounts, f"tiles{side}", LIBRARY_CLASSES) / macs for side in TILES]
    roofs = [_total(amounts, f"roof{ratio}", LIBRARY_CLASSES) for ratio in RATIOS]
    library = [_total(amounts, what, LIBRARY_CLASSES) for what in ("elements", "calls")]
    values = (
        macs, moved, calls, weights, fused, _one(amounts, "fused.calls"), batches, sizes, moved / macs, weights / macs,
        *tiled, *roofs, *library,
    )  # fmt: skip
    return [np.log(np.maximum(value, 1e-9)) for value in values]


def _shares(amounts: Array) -> list[Array]:
    macs, moved, calls = (_total(amounts, what) for what in ("macs", "elements", "calls"))
    kinds = (*LIBRARY_CLASSES, *OTHER_CLASSES)
    return [
        *(_one(amounts, f"{kind}.macs") / macs for kind in LIBRARY_CLASSES),
        *(_one(amounts, f"{kind}.elements") / moved for kind in kinds),
        *(_one(amounts, f"{kind}.calls") / calls for kind in kinds),
        *(_one(amounts, name) / moved for name in ("far", "farther")),
        *(_one(amounts, name) / np.maximum(_one(amounts, "fused.elements"), 1) for name in ("fused.far", "fused.farther")),
    ]


def _one(amounts: Array, name: str) -> Array:
    return amounts[:, _PLACE[name]]


def _total(amounts: Array, what: str, kinds: Iterable[str] = (*LIBRARY_CLASSES, *OTHER_CLASSES)) -> Array:
    """The sum (n,) of one amount over classes, at least 1."""
    columns = [_PLACE[f"{kind}.{what}"] for kind in kinds if f"{kind}.{what}" in _PLACE]
    return np.maximum(amounts[:, columns].sum(1), 1)
