import random

import numpy as np

from nas.predictors.node_features import LABELS, NodeFeatures
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space


def test_channels_that_fill_no_vectors_are_told_apart_operator_by_operator():
    found = [node for seed in range(8) for node in nodes(load_space("tiny").sample(random.Random(seed)), None, 3, 10)]
    known = list({node.key: node for node in found}.values())
    features = NodeFeatures.of(known, np.full(len(known), 1e-5))
    rows = features.layout.pick(features(known)[0], LABELS).reshape(len(known), len(features.labels), 4)
    ragged = np.array([node.in_shape[2] % 16 > 0 for node in known])
    assert 0 < ragged.sum() < len(known)
    assert (rows[:, :, 3] == rows[:, :, 0] * ragged[:, None]).all()
