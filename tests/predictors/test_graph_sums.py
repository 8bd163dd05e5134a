import random

import numpy as np
import pytest

from nas import catalog
from nas.predictors.graph_sums import GraphSums
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space


def row(node):
    """Numbers that tell nodes apart."""
    digits = sum(ord(letter) * (place % 89 + 1) for place, letter in enumerate(node.key))
    return [1.0, digits % 10007, node.in_shape[0] * node.out_shape[2]]


def plain(architecture):
    return np.sum([row(node) for node in nodes(architecture, None, 3, 10)], axis=0)


def sums():
    asked = []

    def rows(found):
        asked.extend(node.key for node in found)
        return np.array([row(node) for node in found])

    return GraphSums(rows, 3, 10), asked


@pytest.mark.parametrize(("space", "number"), [("tiny", 150), ("mobile", 40), ("every", 40)])
def test_sums_by_steps_are_the_sums_over_the_graph(space, number):
    drawn = load_space(space)
    found, _ = sums()
    members = [drawn.sample(random.Random(index)) for index in range(number)]
    for chosen in (members, members, [*members[1::2], *(drawn.sample(random.Random(-index)) for index in range(1, number))]):
        np.testing.assert_allclose(found(chosen).values, [plain(architecture) for architecture in chosen])


def test_published_networks_are_summed_as_their_graphs():
    found, _ = sums()
    members = [catalog.get(name) for name in catalog.names()]
    for _ in range(2):
        np.testing.assert_allclose(found(members).values, [plain(architecture) for architecture in members])


def test_a_node_is_asked_for_once_and_a_known_network_is_not_walked_again(monkeypatch):
    space = load_space("tiny")
    found, asked = sums()
    members = [space.sample(random.Random(index)) for index in range(60)]
    found(members)
    assert len(asked) == len(set(asked)) == len({node.key for member in members for node in nodes(member, None, 3, 10)})
    monkeypatch.setattr("nas.predictors.graph_sums.nodes", None)
    assert len(found(members).values) == 60
    assert len(asked) == len(set(asked))


def test_the_rows_of_a_network_are_its_nodes_in_order():
    space = load_space("tiny")
    found, _ = sums()
    members = [space.sample(random.Random(index)) for index in range(5)]
    found(members)
    again = found(members)
    for index, member in enumerate(members):
        wanted = np.array([row(node) for node in nodes(member, None, 3, 10)])
        for place, column in enumerate(wanted.T):
            np.testing.assert_array_equal(again.column(place)[again.ends[index] : again.ends[index + 1]], column)
