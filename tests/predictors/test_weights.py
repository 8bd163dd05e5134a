import random

import pytest

from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.weights import weight_bytes
from nas.search_spaces.backbone import build
from nas.search_spaces.presets import load_space


@pytest.mark.parametrize("name", ["tiny", "every"])
def test_the_bytes_of_the_weights_are_those_of_the_network_that_is_built(name):
    space, table = load_space(name), LatencyTable(Target(), name, num_classes=7, in_channels=1)
    for seed in range(4):
        member = space.sample(random.Random(seed))
        built = sum(item.nbytes for item in build(member, 7, 1).parameters())
        assert weight_bytes(member, table) == weight_bytes(member, table) == built
