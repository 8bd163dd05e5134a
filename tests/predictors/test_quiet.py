"""Quiet times: what disturbs some runs leaves them as they are, and what slows everything is told by the anchor."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_machine import made_table

from nas.predictors.latency_table import LatencyTable
from nas.predictors.machine import MachineState
from nas.predictors.quiet import part_felt, summarise_group
from nas.predictors.timings import FELT, Measurement, Speed, Visit

ANCHOR = 1e-3
TRUTH = np.array([4e-3, 5e-3, 9e-3])
SPEED = Speed(ANCHOR)


def session(seed, moods=0.0, slow=lambda at: 1.0, rounds=8, stalled=0.0, part=FELT):
    """Visits of three networks and the anchor, whose runs a machine's `moods` (standard deviation of their logarithms) slow
    together, networks by a `part` of it; `slow` does so for longer, and `stalled` runs take twice as long on their own."""
    rng = np.random.default_rng(seed)

    def visit(at, number, place):
        mood = slow(at) * np.exp(moods * rng.standard_normal(6))
        own = np.where(rng.random(6) < stalled, 2.0, 1.0) * rng.lognormal(0, 0.005, 6)
        beside = ANCHOR * mood * rng.lognormal(0, 0.005, 6)
        return Visit(at, number, tuple(TRUTH[place] * mood**part * own), 0, MachineState(), True, tuple(beside))

    found = [[] for _ in TRUTH]
    for number in range(2 * rounds * len(TRUTH)):
        place = number % len(TRUTH)
        found[place].append(visit(0.1 * number, number // (2 * len(TRUTH)), place))
    anchors = [Visit(0.0, number, (ANCHOR,), 0, MachineState()) for number in range(2 * rounds)]
    return found, anchors


def told(visits, anchors, speed=SPEED, target="cpu:eager"):
    return summarise_group(visits, anchors, target, [32] * len(visits), speed=speed)


@given(st.integers(0, 1000))
@settings(max_examples=25)
def test_neither_moods_nor_stalled_runs_move_quiet_times(seed):
    found = told(*session(seed, moods=0.2, stalled=0.2))
    np.testing.assert_allclose(np.array([item.quiet for item in found]) / TRUTH, 1.0, rtol=0.02)


def test_quiet_times_repeat_themselves_better_than_by_all_of_the_anchors_slowness():
    def whole(visits):
        return [np.median(np.concatenate([np.divide(one.seconds, one.beside) for one in own])) for own in visits]

    sessions = [session(seed, moods=0.2) for seed in range(20)]
    quiet = np.std(np.log([[one.quiet for one in told(*one)] for one in sessions]), 0).mean()
    assert quiet < 0.3 * np.std(np.log([whole(visits) for visits, _ in sessions]), 0).mean()


def test_a_machine_that_slows_down_for_seconds_is_told_by_the_anchor():
    visits, anchors = session(0, slow=lambda at: 1.0 if at < 2 else 1.5)
    visits[2] = [visit for visit in visits[2] if visit.at > 3]
    found = told(visits, anchors)
    np.testing.assert_allclose([item.quiet for item in found], TRUTH, rtol=0.03)


def changing(at):
    return 1.3 if at % 1.3 < 0.6 else 0.9


@pytest.mark.parametrize("part", [0.4, 1.0, 1.3])
def test_how_much_of_the_anchors_slowness_networks_feel_is_read_off_the_rounds(part):
    visits, anchors = session(0, slow=changing, rounds=12, part=part)
    assert part_felt(visits * 5) == pytest.approx(part, abs=0.1)
    late = [replace(one, seconds=tuple(1.5 * run for run in one.seconds)) if one.round > 8 else one for one in visits[0]]
    assert part_felt([late, *visits * 5]) == pytest.approx(part, abs=0.15)
    found = told(visits[2:] * 10, anchors)
    np.testing.assert_allclose([item.quiet for item in found], TRUTH[2], rtol=0.02)
    assert [item.felt for item in found] == pytest.approx([part] * 10, abs=0.1)


@pytest.mark.parametrize("part", [0.4, 1.0, 1.3])
def test_all_times_of_a_group_are_told_by_what_it_feels(part):
    """Whatever share of a network's visits met the slow machine, and whichever of them other work interrupted."""
    visits, _ = session(0, slow=lambda at: 1.0 if at < 4 else 1.4, rounds=12, part=part)
    anchors = [Visit(0.0, one.round, (np.median(one.beside),), 0, MachineState()) for one in visits[0][::2]]
    broken = [[replace(one, interruptions=int(one.at > 4)) for one in own] for own in visits]
    for item, truth in zip(told(broken * 3, anchors), [*TRUTH] * 3, strict=True):
        assert [item.median, item.low, item.high, item.quiet] == pytest.approx([truth] * 4, rel=0.02)
        assert item.p90 < 1.05 * truth
        assert item.spread < 0.03


@pytest.mark.parametrize("part", [0.4, 1.0, 1.3])
def test_a_few_networks_are_told_by_what_those_of_the_table_feel_and_many_hold_to_it(part):
    visits, anchors = session(0, slow=changing, rounds=12, part=part)
    few = told(visits, anchors, Speed(ANCHOR, part))
    np.testing.assert_allclose([item.quiet for item in few], TRUTH, rtol=0.02)
    assert {item.felt for item in few} == {part}
    noisy = [[replace(one, seconds=(one.seconds[0] * (1.2 if one.round % 2 else 1.0),)) for one in own] for own in visits]
    held, free = (told(noisy * 5, anchors, speed)[0].felt for speed in (Speed(ANCHOR, part), Speed(ANCHOR, FELT)))
    assert abs(held - part) < abs(free - part)
    near, far = (abs(told(noisy * 5, anchors, speed)[0].felt - FELT) for speed in (Speed(ANCHOR, FELT), SPEED))
    assert near < far


def test_few_networks_and_a_machine_that_keeps_its_pace_say_nothing_of_how_much_is_felt():
    restless, steady = session(0, moods=0.2, part=1.0), session(0, slow=lambda at: 1.4, part=1.0)
    assert part_felt([]) is part_felt(restless[0]) is part_felt(steady[0] * 5) is None
    assert part_felt(restless[0], 1.1) == 1.1
    assert part_felt(steady[0] * 5, 1.1) == pytest.approx(1.1, abs=0.05)
    exact = [[Visit(0.0, number, (2e-3,), 0, MachineState(), True, (ANCHOR,)) for number in range(6)] for _ in range(9)]
    assert part_felt(exact) is None
    assert part_felt(exact, 1.1) == 1.1
    assert {(item.part, item.felt) for item in told(*restless)} == {(None, FELT)}


def test_devices_whose_clock_moves_all_alike_are_told_by_all_of_it():
    visits, anchors = session(0, slow=changing, part=1.0)
    found = told(visits * 5, anchors, target="cuda:eager")
    np.testing.assert_allclose([item.quiet for item in found], [*TRUTH] * 5, rtol=0.01)
    assert {(item.part, item.felt) for item in found} == {(None, 1.0)}


def test_without_the_anchor_beside_the_runs_there_is_no_quiet_time():
    visits, anchors = session(0)
    bare = [[replace(visit, beside=()) for visit in own] for own in visits]
    assert [item.quiet for item in told(bare, anchors)] == [None] * len(TRUTH)


def test_without_a_reference_quiet_times_are_told_at_the_speed_of_the_anchor_then():
    visits, anchors = session(0, slow=lambda at: 2.0)
    found = told(visits, anchors, None)
    np.testing.assert_allclose([item.quiet for item in found], 2**FELT * TRUTH, rtol=0.01)


def test_quiet_times_are_kept_and_told_at_another_speed_with_the_others():
    found = told(*session(0))[0]
    assert Measurement.from_mapping(found.to_mapping()) == found
    assert found.scaled(3.0).quiet == pytest.approx(3**FELT * found.quiet)


def test_a_table_tells_quiet_times_at_the_level_of_its_medians():
    table, rng = made_table(train=30, census=2), np.random.default_rng(0)
    quiet = {digest: item.measurement.median for digest, item in table.networks.items()}
    for digest, item in table.networks.items():
        noisy = replace(item.measurement, median=quiet[digest] * 1.2 * rng.lognormal(0, 0.1), quiet=quiet[digest])
        table.networks[digest] = replace(item, measurement=noisy)
    networks = list(table.networks.values())
    ratio = table.latency(networks) / [quiet[item.architecture.digest] for item in networks]
    np.testing.assert_allclose(ratio, ratio[0])
    assert ratio[0] == pytest.approx(np.median([item.measurement.median / item.measurement.quiet for item in networks]))


def test_networks_without_a_quiet_time_are_told_by_their_medians():
    table = made_table(train=8, census=2)
    networks = list(table.networks.values())
    np.testing.assert_array_equal(table.latency(networks), [item.measurement.median for item in networks])
    assert LatencyTable(table.target).latency([]).shape == (0,)
