"""A machine whose times we know: an overhead by operator, a rate, and noise as asked for."""

import math
import random

import numpy as np

from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import Measurement
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
OVERHEAD = 2e-4


def node_seconds(node):
    work = math.prod(node.in_shape) * (1 + node.out_shape[2] / 50) * (1 + 0.2 * sum(float(v) for _, v in node.settings))
    return 2e-5 + 1e-6 * (sum(map(ord, node.operator)) % 40) + 1e-9 * work


def other_seconds(node):
    """A second machine, slower at large maps and with other favourites."""
    return 1e-5 + 2e-6 * (sum(map(ord, node.operator)) % 17) + 3e-9 * math.prod(node.in_shape)


def latency(architecture, scale=1.3, seconds=node_seconds):
    return OVERHEAD + scale * sum(seconds(node) for node in nodes(architecture, None, 3, 10))


def measured(seconds, target=None):
    return Measurement(seconds, seconds * 0.99, seconds * 1.01, seconds, seconds, 10, 0.02, 0.01, str(target or Target()), 32)


def sampled(name, number):
    return [SPACE.sample(random.Random(f"{name}{index}")) for index in range(number)]


def made_table(train=40, census=50, noise=0.03, scale=1.3, seconds=node_seconds, target=None):
    rng = random.Random(0)
    table = LatencyTable(target or Target(), "tiny", num_classes=10, anchor=1e-3)
    for architecture in sampled("census", census):
        for node in nodes(architecture, None, 3, 10):
            table.add_node(node, seconds(node) * rng.lognormvariate(0, noise))
    for architecture in sampled("train", train):
        took = latency(architecture, scale, seconds) * rng.lognormvariate(0, noise / 3)
        table.add(architecture, measured(took, target), "train")
    return table


def mape(predicted, truth):
    return float(np.mean(np.abs(np.asarray(predicted) / np.asarray(truth) - 1)))
