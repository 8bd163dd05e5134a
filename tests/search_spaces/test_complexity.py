"""The closed count of an architecture's blocks orders networks as the exact one does."""

from __future__ import annotations

import random

from scipy.stats import spearmanr

import nas
from nas.search_spaces.complexity import block_macs


def test_it_orders_networks_as_the_exact_count_does() -> None:
    space = nas.load_space("tiny")
    found = [space.sample(random.Random(seed)) for seed in range(12)]
    exact = [nas.cost(architecture).macs for architecture in found]
    assert spearmanr([block_macs(each) for each in found], exact).statistic > 0.9


def test_a_row_of_tokens_counts_as_many_positions_as_it_has() -> None:
    tokens = {"stems": ["tokens"], "stem_stride": 16, "strides": [1], "resolutions": [96], "downsamples": ["keep"]}
    shape = {"depths": [[2], [2]], "widths": [[64], [64]], "mixers": ["global_attention"], "heads": ["class_token"]}
    base = nas.load_space("tiny")
    space = nas.SearchSpace.from_mapping({**tokens, **shape, "norms": ["layer"], "placements": ["free"], "name": "rows"}, base)
    architecture = space.sample(random.Random(0))
    exact = nas.cost(architecture).macs
    assert 0.5 * exact < block_macs(architecture) < 1.5 * exact
