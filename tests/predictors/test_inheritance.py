import numpy as np
import pytest
from known_machine import SPACE, latency, made_table, mape, measured, other_seconds, sampled
from scipy.stats import spearmanr

from nas.errors import FileError, MeasurementError
from nas.predictors.inheritance import Ancestors, mixture
from nas.predictors.latency_predictor import LatencyPredictor
from nas.predictors.latency_profile import profile
from nas.predictors.latency_table import LatencyTable
from nas.predictors.node_times import NodeTimes
from nas.predictors.profile_cost import profile_cost
from nas.predictors.remarks import remarks
from nas.predictors.target import Target
from nas.search_spaces.graph import nodes

NEW = Target(threads=3)
HELD_OUT = sampled("held", 40)


def mixed(architecture):
    """A target between the two known ones, with an overhead of its own."""
    return 4e-4 + 0.5 * latency(architecture) + 0.3 * latency(architecture, seconds=other_seconds)


@pytest.fixture(scope="module")
def ancestors():
    return Ancestors([made_table(train=0), made_table(train=0, seconds=other_seconds, target=Target(threads=2))])


def child(number):
    table = LatencyTable(NEW, "tiny", num_classes=10, anchor=1e-3)
    for architecture in sampled("few", number):
        table.add(architecture, measured(mixed(architecture), NEW))
    return table


def test_twenty_networks_and_two_known_targets_predict_a_third(ancestors):
    table = child(20)
    ancestors.bequeath(table)
    predictor = LatencyPredictor.fit(table)
    truth = [mixed(architecture) for architecture in HELD_OUT]
    found = predictor.predict(HELD_OUT).mean
    assert mape(found, truth) < 0.03
    assert spearmanr(found, truth).statistic > 0.98
    assert table.ancestry == [str(Target()), str(Target(threads=2))]


def test_what_networks_of_many_nodes_take_beyond_these_is_in_neither_the_sums_nor_what_is_handed_on():
    known = made_table(train=24)
    known.factors = {digest: len(nodes(item.architecture, None, 3, 10)) ** 0.25 for digest, item in known.networks.items()}
    times = NodeTimes.fit(known)
    handed = [sum(item.seconds for item in times(nodes(architecture, None, 3, 10))) for architecture in HELD_OUT]
    assert times.growth.exponent > 0.2
    np.testing.assert_allclose(Ancestors([known]).sums(HELD_OUT)[:, 0], handed)


def test_the_mixture_is_found_and_never_negative():
    rng = np.random.default_rng(0)
    sums = rng.uniform(1e-3, 4e-3, (40, 3))
    weights = mixture(sums, sums @ [0.5, 0.0, 2.0] + 1e-4)
    np.testing.assert_allclose(weights, [0.5, 0.0, 2.0], atol=0.02)
    assert (mixture(sums, 1e-2 - sums.sum(1) / 2) >= 0).all()
    assert mixture(sums, 1e-2 - sums.sum(1) / 2).any()


def test_tables_that_do_not_fit_are_refused(ancestors):
    with pytest.raises(FileError, match="3 channels and 10 classes"):
        ancestors.require(LatencyTable(NEW, "tiny", num_classes=1000))
    with pytest.raises(FileError, match="node times of its own"):
        ancestors.require(made_table(train=0, census=2))
    with pytest.raises(MeasurementError, match="has 5 training networks"):
        ancestors.bequeath(child(5))


def test_a_profile_from_another_table_times_no_node(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.predictors.census.time_in_place", None)
    options = {"num_classes": 10, "train": 8, "held_out": 2, "seconds": 0.5, "known": [made_table(train=0, census=12)]}
    table = profile(SPACE, Target(), tmp_path / "t.json", **options)
    assert len(table.networks) == 10
    assert len(table.nodes) == len(made_table(train=0, census=12).nodes)
    again = profile(SPACE, Target(), tmp_path / "t.json", **options)
    assert again.networks == table.networks
    assert LatencyPredictor.fit(again).predict(HELD_OUT).mean.min() > 0


@pytest.mark.thorough
def test_a_profile_that_goes_on_without_the_other_tables_keeps_the_inherited_node_times(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.predictors.census.time_in_place", None)
    path, options = tmp_path / "t.json", {"num_classes": 10, "held_out": 2, "seconds": 0.5}
    table = profile(SPACE, Target(), path, train=8, known=[made_table(train=0, census=12)], **options)
    table.breaks.append("python was 3.0")
    table.save(path)
    more = profile(SPACE, Target(), path, train=9, **options)
    assert (more.nodes, more.ancestry) == (table.nodes, [str(Target())])
    assert len(more.networks) == 11
    assert set(table.networks) < set(more.networks)
    assert remarks(more)[-2:] == [
        "the machine changed between sessions: python was 3.0",
        f"node times are inherited from {Target()}, and not measured",
    ]
    again = profile(SPACE, Target(), path, train=10, known=[made_table(train=0, census=12)], **options)
    assert again.breaks == ["python was 3.0"]
    assert again.nodes != table.nodes


def test_the_cost_of_a_profile_that_inherits_node_times_has_none_for_them():
    assert profile_cost(SPACE, Target(), train=8, held_out=2, seconds=2.0, inherits=True).nodes == 0
    child_ = child(8)
    child_.ancestry = ["cpu:eager"]
    assert profile_cost(SPACE, NEW, train=8, held_out=0, seconds=2.0, table=child_).total == 0
