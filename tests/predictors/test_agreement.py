import random
from dataclasses import replace

import numpy as np
import pytest

from nas.errors import UsageError
from nas.predictors.agreement import compare
from nas.predictors.assessment import assess
from nas.predictors.latency_table import LatencyTable
from nas.predictors.target import Target
from nas.predictors.timings import FELT, Measurement
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")
MEMBERS = [SPACE.sample(random.Random(index)) for index in range(20)]


def table(times, anchor=1e-3, target=None):
    found = LatencyTable(target or Target(), "tiny", anchor=anchor, environment={"cpu": "x"})
    for member, seconds in zip(MEMBERS, times, strict=True):
        found.add(member, Measurement(seconds, seconds, seconds, seconds, seconds, 9, 0.0, 0.0, str(found.target), 32))
        for node in nodes(member)[:1]:
            found.add_node(node, seconds / 10)
    return found


TIMES = [1e-3 * (1 + index) for index in range(20)]


def noisy(scale, noise, seed=0):
    rng = random.Random(seed)
    return [seconds * scale * rng.lognormvariate(0, noise) for seconds in TIMES]


def test_times_that_are_all_the_same_have_no_order():
    assert compare(table(TIMES), table([1e-3] * 20)).spearman == 0.0
    found = assess(np.full(5, 2.0), np.arange(1.0, 6.0), np.zeros(5), np.ones(5))
    assert (found.spearman, found.kendall) == (0.0, 0.0)


def test_a_profile_agrees_with_itself_and_with_one_of_a_little_noise():
    found = compare(table(TIMES), table(TIMES))
    assert (found.ratio, found.deviation, found.spearman, found.agree) == (1.0, 0.0, pytest.approx(1.0), True)
    assert compare(table(TIMES), table(noisy(1.01, 0.01))).agree


def test_a_machine_that_is_slower_as_a_whole_is_told_apart_from_other_networks():
    same = compare(table(TIMES), table(noisy(1.2**FELT, 0.0), anchor=1.2e-3))
    assert same.agree
    assert (same.ratio, same.shift, same.anchor) == pytest.approx((1.2**FELT, 1.0, 1.2))
    assert "took 1.200 times as long" in same.lines()[1]
    other = compare(table(TIMES), table(noisy(1.2, 0.0)))
    assert other.shift == pytest.approx(1.2)
    assert "1.200 times the first at one speed of the machine" in other.reasons[0]


def test_profiles_are_compared_by_what_their_networks_feel():
    first, second = table(TIMES), table(noisy(1.2**1.1, 0.0), anchor=1.2e-3)
    for parts in ((1.2, 1.0), (1.1, None), (None, 1.1)):
        for one, part in zip((first, second), parts, strict=True):
            for digest, item in one.networks.items():
                one.networks[digest] = replace(item, measurement=replace(item.measurement, part=part))
        found = compare(first, second)
        assert found.agree
        assert (found.part, found.shift) == pytest.approx((1.1, 1.0))


def test_scattered_times_and_another_order_do_not_agree():
    found = compare(table(TIMES), table(noisy(1.0, 0.3)))
    assert any("single networks differ" in text for text in found.reasons)
    swapped = compare(table(TIMES), table(TIMES[::-1]))
    assert any("Spearman" in text for text in swapped.reasons)
    assert swapped.lines()[-1].startswith("they do not agree: ")


def test_another_library_is_named_where_they_do_not_agree():
    second = table(noisy(1.5, 0.0))
    second.environment = {"cpu": "y"}
    assert compare(table(TIMES), second).reasons[-1] == "environment: cpu was x, is y"
    same = table(TIMES)
    same.environment = {"cpu": "y"}
    assert compare(table(TIMES), same).agree


def test_tables_of_other_targets_or_networks_cannot_be_compared():
    with pytest.raises(UsageError, match="only profiles of one target"):
        compare(table(TIMES), table(TIMES, target=replace(Target(), threads=2)))
    few = table(TIMES)
    few.networks = dict(list(few.networks.items())[:4])
    with pytest.raises(UsageError, match="4 networks in common"):
        compare(table(TIMES), few)


def test_the_mapping_has_the_verdict():
    assert compare(table(TIMES), table(TIMES)).to_mapping()["agree"] is True
