"""The closed cost formula of each mixer against the counter, which traces what is executed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest
import torch
from usual import usual_first

from nas.predictors.cost import module_cost
from nas.search_spaces.registry import Kind, Operator, Settings, operators

MIXERS = [op for op in operators() if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]
PLACES = ((16, 4), (32, 14), (24, 9))


def cases(op: Operator, width: int, size: int) -> Iterator[Settings]:
    """The first and last of the legal settings, two between, and each optional setting changed."""
    every = op.legal_settings(width, size)
    yield from dict.fromkeys(every[round(share * (len(every) - 1))] for share in (0, 0.3, 0.7, 1) if every)
    yield from op.variants(width, size)


@pytest.mark.parametrize("op", usual_first(MIXERS), ids=lambda op: f"{op.kind}-{op.name}")
def test_the_formula_of_the_macs_equals_the_counter(op: Operator) -> None:
    formula = importlib.import_module(op.module.__module__).macs
    for width, size in PLACES:
        for settings in cases(op, width, size):
            counted = module_cost(op.module(width, size, **dict(settings)), (torch.zeros(1, size, size, width),)).macs
            assert formula(width, size, **dict(settings)) == counted, f"{op.name} {dict(settings)} at {width}x{size}x{size}"
