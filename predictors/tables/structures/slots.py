"""Networks that are a row of slots, each with a kind of block, so many times: what chains, blocks and elastic nets share.

Size columns (MACs, parameters) of such networks are sums over slots; a least-squares fit over the table's architectures
gives each slot's and kind's share without any measurement, and so amounts by kind that follow the shapes of the slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas.predictors.surrogates.layout import AMOUNTS, CHOICES, COUNTS, LABELS, STAGES, SUMMARY, Integers
from nas.predictors.tables.labels import LabelledGraph, label_counts
from nas.predictors.tables.structures.base import Groups
from nas.predictors.timings import Array


@dataclass(frozen=True, slots=True)
class Slots:
    """Rows of slots.

    `kinds` (n, slots) are codes 0 ... of `attributes` (kinds, a), the numbers that describe a kind, none for bare codes;
    `times` (n, slots) is how often the block stands there; `stage` (slots,) numbers the stages; `area` (n,) is the input's
    area against the largest of the table.
    """

    kinds: Integers
    times: Array
    attributes: Array
    stage: Integers
    area: Array

    @property
    def number(self) -> int:
        """How many kinds there are."""
        return max(int(self.kinds.max()) + 1, len(self.attributes))

    def one_hot(self) -> Array:
        """(n, slots, kinds): how often each kind stands at each slot."""
        return np.asarray((self.kinds[:, :, None] == np.arange(self.number)) * self.times[:, :, None], np.float64)

    def graphs(self) -> list[LabelledGraph]:
        """Chains of the blocks that are there, labelled by kind."""
        made = []
        for kinds, times in zip(self.kinds.tolist(), self.times.tolist(), strict=True):
            there = [(slot, kind) for slot, (kind, number) in enumerate(zip(kinds, times, strict=True)) if number]
            edges = tuple((i, i + 1) for i in range(len(there) - 1))
            made.append(LabelledGraph(tuple(kind for _, kind in there), edges))
        return made


def encode_slots(slots: Slots, sizes: Mapping[str, Array]) -> Groups:
    """The groups of features of rows of slots; see the module."""
    hot = slots.one_hot()
    n = len(hot)
    area = slots.area[:, None]
    shares = [_shares(hot, size) for size in sizes.values()]
    weighted = [hot * share for share in shares]
    products = [hot * _product(slots.attributes, powers) for powers in _powers(slots.attributes)]
    varies = bool(np.ptp(slots.area))
    by_kind = [x.sum(1) for x in weighted]
    by_stage = [_per_stage(x, slots.stage) for x in (hot, *weighted, *products)]
    if not products:
        by_stage.append(_per_stage_and_kind(hot, slots.stage))
    if varies:
        by_kind = [*by_kind, hot.sum(1) * area, slots.area]
        by_stage = [*by_stage, *(x * area for x in by_stage)]
    totals = [hot.sum((1, 2)), *(np.log(np.maximum(size, 1e-9)) for size in sizes.values()), slots.area]
    fine = hot.reshape(n, -1)
    few = by_stage[1 : len(products) + 2]  # a summary is for smooth functions, which many columns would make too far apart
    return {
        COUNTS: [hot.sum(1)],
        AMOUNTS: [*by_kind, *(size for size in sizes.values())],
        STAGES: by_stage,
        CHOICES: [fine, *(x.reshape(n, -1) for x in weighted), *([fine * area] if varies else [])],
        SUMMARY: [*totals, *few, hot.sum(1)],
        LABELS: [label_counts(slots.graphs(), 1)],
    }


def _shares(hot: Array, size: Array) -> Array:
    """The share of each slot and kind (slots, kinds) in a size column, scaled to a mean of 1; negative ones become 0."""
    flat = hot.reshape(len(hot), -1)
    sample = slice(0, 4 * flat.shape[1] + 200)
    design = np.concatenate([flat[sample], np.ones((len(flat[sample]), 1))], 1)
    found = np.linalg.lstsq(design, size[sample], rcond=1e-9)[0][:-1].reshape(hot.shape[1:])
    base = found.min(1, keepdims=True)  # the constant is shared among slots in any way; the cheapest kind of each gets 0
    found = np.maximum(found - base, 0)
    return found / max(float(found.mean()), 1e-12)


def _powers(attributes: Array) -> list[tuple[int, ...]]:
    """Which attributes are multiplied: each alone, and all subsets of them."""
    number = attributes.shape[1]
    return [tuple(a for a in range(number) if mask >> a & 1) for mask in range(1, 2**number)]


def _product(attributes: Array, powers: Sequence[int]) -> Array:
    product = attributes[:, list(powers)].prod(1)
    return product / max(float(np.abs(product).max()), 1e-12)


def _per_stage(x: Array, stage: Integers) -> Array:
    """(n, stages): sums over the slots of each stage and over kinds."""
    return np.stack([x[:, stage == one].sum((1, 2)) for one in np.unique(stage)], 1)


def _per_stage_and_kind(x: Array, stage: Integers) -> Array:
    """(n, stages x kinds): sums over the slots of each stage."""
    return np.concatenate([x[:, stage == one].sum(1) for one in np.unique(stage)], 1)
