import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from known_machine import latency, made_table, measured, node_seconds, sampled

from nas.errors import MeasurementError, UsageError
from nas.predictors import node_times
from nas.predictors.assessment import assess
from nas.predictors.corrections import MODELS, averaged, shares, simplest
from nas.predictors.kernel_times import IN_TRAINING, KERNELS
from nas.predictors.latency_predictor import LatencyPredictor, conformal_quantile
from nas.predictors.latency_table import TRAIN, LatencyTable
from nas.predictors.node_times import NodeTimes, registered
from nas.predictors.target import Target
from nas.search_spaces.graph import nodes


@pytest.fixture(scope="module")
def predictor():
    return LatencyPredictor.fit(made_table())


HELD_OUT = sampled("held", 50)
TRUTH = [latency(architecture) for architecture in HELD_OUT]


def test_a_known_machine_is_predicted(predictor):
    found = predictor.assess(HELD_OUT, TRUTH)
    assert found.mape < 0.03
    assert found.spearman > 0.97
    assert found.within_10 > 0.95
    assert found.n == 50


def test_intervals_cover_about_as_often_as_they_say(predictor):
    assert predictor.assess(HELD_OUT, TRUTH).coverage_90 >= 0.8
    assert np.mean(predictor.upper(HELD_OUT, 0.95) >= TRUTH) >= 0.85
    assert np.median(predictor.upper(HELD_OUT, 0.95) / TRUTH) < 1.2


def test_higher_confidence_means_a_higher_bound(predictor):
    bounds = [predictor.upper(HELD_OUT, confidence) for confidence in (0.5, 0.8, 0.95, 0.999)]
    assert all((low <= high).all() for low, high in itertools.pairwise(bounds))
    with pytest.raises(UsageError, match="between 0 and 1"):
        predictor.upper(HELD_OUT, 95)


def test_the_table_is_the_whole_state(predictor, tmp_path):
    predictor.table.save(tmp_path / "t.json")
    again = LatencyPredictor.fit(LatencyTable.load(tmp_path / "t.json"))
    np.testing.assert_array_equal(again.predict(HELD_OUT).mean, predictor.predict(HELD_OUT).mean)
    np.testing.assert_array_equal(again.upper(HELD_OUT), predictor.upper(HELD_OUT))


def test_a_prediction_does_not_depend_on_its_company(predictor):
    together = predictor.predict(HELD_OUT)
    alone = np.concatenate([predictor.predict([architecture]).mean for architecture in HELD_OUT])
    np.testing.assert_allclose(together.mean, alone, rtol=1e-9)


def thinned(table, step):
    """A table with every `step`-th node, and at least one of each operator."""
    kept, seen = {}, set()
    for number, (key, item) in enumerate(sorted(table.nodes.items())):
        if number % step == 0 or registered(item.node) not in seen:
            kept[key] = item
            seen.add(registered(item.node))
    return replace(table, nodes=kept)


def test_where_nodes_were_not_measured_the_interval_is_wider(predictor):
    few = LatencyPredictor.fit(thinned(made_table(), 12))
    assert few.predict(HELD_OUT).std.mean() > 1.5 * predictor.predict(HELD_OUT).std.mean()


def test_beyond_the_measured_sizes_the_interval_widens_and_holds(predictor):
    widths = []
    for side in (32, 64, 128):
        larger = [replace(architecture, resolution=side) for architecture in HELD_OUT[:20]]
        low, high = predictor.interval(larger, 0.9)
        truth = np.array([latency(architecture) for architecture in larger])
        assert np.mean((low <= truth) & (truth <= high)) >= 0.8
        widths.append(np.median(np.log(high / low)))
    assert widths[0] * 1.3 < widths[1] < widths[2]


def test_a_network_slower_than_all_measured_ones_has_a_wider_interval():
    table = made_table()
    times = sorted(item.measurement.median for item in table.networks.values())
    networks = {key: item for key, item in table.networks.items() if item.measurement.median <= times[len(times) // 2]}
    narrow = LatencyPredictor.fit(replace(table, networks=networks))
    slowest = max(HELD_OUT, key=latency)
    usual = min(HELD_OUT, key=lambda architecture: abs(latency(architecture) - times[len(times) // 4]))

    def width(architecture):
        low, high = narrow.interval([architecture])
        return float(np.log(high / low)[0])

    assert width(slowest) > 1.2 * width(usual)


def test_an_operator_without_a_time_is_refused_by_name(predictor):
    table = made_table()
    strange = {key: item for key, item in table.nodes.items() if item.node.operator != "global_filter"}
    blind = LatencyPredictor.fit(replace(table, nodes=strange))
    with_it = [a for a in HELD_OUT if any(node.operator == "global_filter" for node in nodes(a, None, 3, 10))]
    without = [a for a in HELD_OUT if a not in with_it]
    for ask in (blind.predict, blind.interval, blind.upper):
        with pytest.raises(MeasurementError, match="holds no time of global_filter"):
            ask(HELD_OUT)
    np.testing.assert_allclose(blind.predict(without).mean, predictor.predict(without).mean, rtol=0.2)


def test_of_many_nodes_the_longest_are_learned_from_and_some_of_every_operator(monkeypatch):
    monkeypatch.setattr("nas.predictors.node_times.LEARNED", 60)
    table = made_table(train=0, census=6)
    times = NodeTimes.fit(table)
    known = {key: item for key, item in table.nodes.items() if len(item.samples) < 5}  # of more the median counts
    ordered = sorted(known, key=lambda key: -np.log(known[key].samples).mean())
    assert len(times.learned) == 60 < len(ordered)
    assert set(ordered[: 30 - (len(table.nodes) - len(known))]) < times.learned.keys()
    labels = {(item.node.kind, item.node.operator) for item in table.nodes.values()}
    assert {(table.nodes[key].node.kind, table.nodes[key].node.operator) for key in times.learned} == labels
    assert list(times.learned.values()) == list(range(60))
    sides = np.log([item.node.in_shape[0] for item in table.nodes.values()])
    assert (times.lengths[0][0], times.lengths[1][0]) == (sides.min(), sides.max())


def test_unmeasured_nodes_are_estimated_with_a_wider_error():
    times = NodeTimes.fit(made_table(train=0, census=6))
    found = {node.key: node for architecture in HELD_OUT for node in nodes(architecture, None, 3, 10)}
    estimates = dict(zip(found, times(list(found.values())), strict=True))
    known = [item.error for item in estimates.values() if item.measured]
    unknown = {key: item for key, item in estimates.items() if not item.measured}
    assert np.median([item.error for item in unknown.values()]) > 1.2 * np.median(known)
    ratios = [item.seconds / node_seconds(found[key]) for key, item in unknown.items()]
    assert 0.8 < np.median(ratios) < 1.25


def test_corrections_are_learned_without_new_node_times():
    wrong = made_table(train=20)
    predictor = LatencyPredictor.fit(wrong)
    slower = [1.5 * value for value in TRUTH]
    before = predictor.assess(HELD_OUT, slower).mape
    nodes_before = dict(predictor.table.nodes)
    fresh = sampled("correction", 60)
    predictor.correct(fresh, [measured(1.5 * latency(architecture)) for architecture in fresh])
    assert predictor.assess(HELD_OUT, slower).mape < 0.6 * before
    assert predictor.table.nodes == nodes_before
    assert len(predictor.table.networks) == 80


def test_node_times_add_up_to_the_prediction(predictor):
    found = predictor.node_seconds(HELD_OUT[0])
    assert list(found) == [node.name for node in nodes(HELD_OUT[0], None, 3, 10)]
    assert sum(found.values()) == pytest.approx(predictor.predict(HELD_OUT[:1]).mean[0])


def test_without_noise_the_simplest_correction_wins_over_richer_ones():
    table = LatencyTable(Target(), "tiny", num_classes=10)
    for architecture in sampled("train", 20):
        found = nodes(architecture, None, 3, 10)
        for node in found:
            table.add_node(node, node_seconds(node))
        table.add(architecture, measured(sum(node_seconds(node) for node in found)))
    assert LatencyPredictor.fit(table).model == "table and power"


@pytest.mark.parametrize("exponent", [0.9, 1.1])
def test_networks_that_grow_faster_or_slower_than_their_nodes_are_predicted_at_both_ends(exponent):
    table = LatencyTable(Target(), "tiny", num_classes=10)

    def whole(architecture):
        return sum(node_seconds(node) for node in nodes(architecture, None, 3, 10)) ** exponent

    for architecture in sampled("train", 20):
        for node in nodes(architecture, None, 3, 10):
            table.add_node(node, node_seconds(node))
        table.add(architecture, measured(whole(architecture)))
    known = sampled("train", 20)
    predicted = LatencyPredictor.fit(table).predict(known).mean
    assert predicted == pytest.approx([whole(architecture) for architecture in known], rel=0.01)


def test_too_little_to_learn_from_is_said():
    with pytest.raises(MeasurementError, match="has 0 node times"):
        LatencyPredictor.fit(LatencyTable(Target()))
    with pytest.raises(MeasurementError, match="has 3 training networks"):
        LatencyPredictor.fit(made_table(train=3, census=2))


def test_the_simplest_model_inside_a_standard_error_is_chosen():
    rng = np.random.default_rng(0)
    good = rng.normal(0, 0.05, 40)
    assert simplest({"a": good + 0.001, "b": good}) == "a"
    assert simplest({"a": good + 0.3, "b": good}) == "b"


def test_corrections_that_are_about_as_good_count_alike_and_bad_ones_not_at_all():
    rng = np.random.default_rng(0)
    good, same, worse, bad = (rng.normal(0, deviation, 4000) for deviation in (0.05, 0.05, 0.06, 0.1))
    found = shares({"good": good, "same": same, "worse": worse, "bad": bad})
    assert list(found) == ["good", "same", "worse"]
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["good"] == pytest.approx(found["same"], rel=0.3)
    assert found["worse"] == pytest.approx(found["good"] * (0.05 / 0.06) ** 8, rel=0.4)
    exact = shares({"a": np.zeros(9), "b": np.full(9, 1e-4), "c": np.full(9, 0.02)})
    assert exact == {"a": 0.5, "b": 0.5}


def test_a_model_counts_in_a_fold_by_what_it_does_in_the_others():
    rng = np.random.default_rng(1)
    fold, good = np.arange(200) % 10 == 3, rng.normal(0, 0.02, 200)
    wild = np.where(fold, 0.5, rng.normal(0, 0.02, 200))
    found = averaged({"good": good, "wild": wild})
    assert (found[fold] > 0.1).all(), "nothing said that it would be wrong there"
    assert found[~fold] == pytest.approx(good[~fold]), "but this fold says so to the others"


def test_the_prediction_is_the_mean_of_the_corrections_by_their_shares(predictor):
    assert predictor.model in predictor.shares
    assert len(predictor.shares) > 1
    summary = predictor.summary(HELD_OUT)
    known = [item.architecture for item in predictor.table.of_role("train")]
    latencies = predictor.table.latency(list(predictor.table.of_role("train")))
    logs = [share * MODELS[name](predictor.summary(known), latencies)(summary).mean for name, share in predictor.shares.items()]
    assert predictor.predict(HELD_OUT).mean == pytest.approx(np.exp(np.sum(logs, 0)))


def test_left_out_latencies_are_those_of_networks_that_were_not_learned_from():
    table = kernel_table()
    predictor = LatencyPredictor.fit(table)
    known = [item.architecture for item in table.of_role("train")]
    truth = np.array([latency(architecture, seconds=own_seconds) for architecture in known])
    found = predictor.left_out(known)
    assert np.mean(np.abs(found.mean / truth - 1)) > 2 * np.mean(np.abs(predictor.predict(known).mean / truth - 1))
    errors = np.abs(np.log(found.mean / truth))
    assert (errors < 2 * found.std / found.mean).mean() > 0.8
    assert (errors < found.std / found.mean / 2).mean() < 0.8
    one = predictor.left_out(known[3:4])
    assert (one.mean[0], one.std[0]) == (found.mean[3], found.std[3])
    with pytest.raises(KeyError):
        predictor.left_out(HELD_OUT)


@pytest.mark.parametrize(("confidence", "expected"), [(0.5, 5.0), (0.9, 9.0)])
def test_the_conformal_quantile_is_the_textbook_order_statistic(confidence, expected):
    assert conformal_quantile(np.arange(1.0, 10.0), confidence) == expected


def test_beyond_the_data_the_quantile_grows():
    scores = np.arange(1.0, 10.0)
    assert 9.0 < conformal_quantile(scores, 0.99) < conformal_quantile(scores, 0.999)


def test_assessment_counts_what_it_says():
    measured_now = np.array([1.0, 2.0, 4.0, 8.0])
    predicted = measured_now * np.array([1.04, 0.92, 1.2, 1.0])
    found = assess(predicted, measured_now, predicted * 0.9, predicted * 1.1)
    assert found.mape == pytest.approx((0.04 + 0.08 + 0.2 + 0) / 4)
    assert (found.within_5, found.within_10, found.coverage_90) == (0.5, 0.75, 0.75)
    assert found.spearman == found.kendall == pytest.approx(1.0)
    with pytest.raises(UsageError, match="at least two"):
        assess(predicted[:1], measured_now[:1], predicted[:1], predicted[:1])


def own_seconds(node):
    """What a node takes that departs from all laws by a factor of its own."""
    return node_seconds(node) * random.Random(node.key).lognormvariate(0, 0.4)


def kernel_table(noise=0.0, seconds=own_seconds, clock=KERNELS):
    """A table whose training networks brought their node times along: these are known of them, and of no other network."""
    rng, table = random.Random(0), LatencyTable(Target(), "tiny", num_classes=10, anchor=1e-3, environment={"nodes": clock})
    for architecture in sampled("train", 40):
        table.add(architecture, measured(latency(architecture, seconds=seconds)), "train")
        for node in nodes(architecture, None, 3, 10):
            table.add_node(node, seconds(node) * rng.lognormvariate(0, noise))
    return table


@pytest.mark.parametrize("clock", [KERNELS, IN_TRAINING])
def test_networks_that_brought_their_node_times_do_not_make_intervals_too_narrow(clock):
    table, new = kernel_table(clock=clock), sampled("cover", 300)
    truth = [latency(architecture, seconds=own_seconds) for architecture in new]
    honest = LatencyPredictor.fit(table)
    blind = LatencyPredictor.fit(replace(table, environment={}))
    found = honest.assess(new, truth)
    assert found.coverage_90 >= 0.85
    assert honest.scores[honest.model] > 0.5 * found.mape
    assert min(blind.scores.values()) < 0.2 * found.mape


def test_what_is_left_out_is_told_by_the_other_nodes_alone():
    table = kernel_table(noise=0.05, seconds=node_seconds)
    times = NodeTimes.fit(table)
    items = list(nodes(sampled("train", 1)[0], None, 3, 10))
    own = [node for node in items if len(table.nodes[node.key].samples) == 1]
    assert own
    wild = {key: replace(item, samples=tuple(value * 1.5 for value in item.samples)) for key, item in table.nodes.items()}
    kept = {key: item for key, item in table.nodes.items() if key not in {node.key for node in own}}
    wild = kept | {node.key: wild[node.key] for node in own}
    (before,), after = times.left_out([own]), times(own)
    assert not any(item.measured for item in before)
    assert all(item.measured for item in after)
    assert all(item.error > other.error for item, other in zip(before, after, strict=True))
    again = replace(times, table=replace(table, nodes=wild))
    assert [item.seconds for item in again.left_out([own])[0]] == [item.seconds for item in before]


def test_what_is_left_out_of_a_network_is_not_left_out_of_another():
    table = kernel_table(noise=0.05, seconds=node_seconds)
    times = NodeTimes.fit(table)
    first, second = (list(nodes(one, None, 3, 10)) for one in sampled("train", 2))
    both = times.left_out([first, second])
    for together, alone in zip(both, (times.left_out([first])[0], times.left_out([second])[0]), strict=True):
        assert [item.seconds for item in together] == pytest.approx([item.seconds for item in alone], rel=1e-6)
        assert [item.measured for item in together] == [item.measured for item in alone]
    shared = {node.key for node in first} & {node.key for node in second}
    assert all(item.measured for node, item in zip(first, both[0], strict=True) if node.key in shared)


def test_a_network_that_did_not_bring_its_nodes_is_known_as_a_new_one_is():
    table = kernel_table(noise=0.05, seconds=node_seconds)
    other = list(nodes(HELD_OUT[0], None, 3, 10))
    assert {node.key for node in other} - table.nodes.keys()
    times = NodeTimes.fit(table)
    assert times.left_out([other]) == [times(other)]


def test_what_the_process_did_not_learn_from_is_left_out_too(monkeypatch):
    monkeypatch.setattr(node_times, "LEARNED", 200)
    table = kernel_table(noise=0.05, seconds=node_seconds)
    times, items = NodeTimes.fit(table), list(nodes(sampled("train", 1)[0], None, 3, 10))
    own = {node.key for node in items if len(table.nodes[node.key].samples) == 1}
    assert own - times.learned.keys()
    assert own & times.learned.keys()
    assert all(item.measured == (node.key not in own) for node, item in zip(items, times.left_out([items])[0], strict=True))


def test_networks_that_are_learned_from_later_are_left_out_as_all_were_at_once():
    table = kernel_table(noise=0.05, seconds=node_seconds)
    known = list(table.of_role(TRAIN))
    later = LatencyPredictor.fit(replace(table, networks={item.architecture.digest: item for item in known[:30]}))
    later.correct([item.architecture for item in known[30:]], [item.measurement for item in known[30:]])
    whole = LatencyPredictor.fit(table)
    np.testing.assert_allclose(later.predict(HELD_OUT).mean, whole.predict(HELD_OUT).mean, rtol=1e-6)


def test_a_node_that_only_its_network_has_is_left_out_however_often_it_has_it():
    table = kernel_table(noise=0.05, seconds=node_seconds)
    times = NodeTimes.fit(table)
    node = next(node for node in nodes(sampled("train", 1)[0], None, 3, 10) if len(table.nodes[node.key].samples) == 1)
    table.nodes[node.key] = replace(table.nodes[node.key], samples=table.nodes[node.key].samples * 2)
    assert times.left_out([[node]])[0][0].measured
    assert not times.left_out([[node, node]])[0][0].measured


def test_small_nodes_with_wild_times_do_not_spoil_what_is_known_of_large_ones():
    rng, table = random.Random(0), made_table(census=40, noise=0.0)
    for key, item in table.nodes.items():
        wild = tuple(value + 2e-6 + 2e-5 * rng.random() for value in item.samples)
        table.nodes[key] = replace(item, samples=wild)
    predictor = LatencyPredictor.fit(table)
    assert predictor.assess(HELD_OUT, TRUTH).mape < 0.03
