"""The energy predictor, on a machine whose times and power we know."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_machine import SPACE, latency, made_table, mape, measured, sampled

from nas.errors import FileError, MeasurementError, UsageError
from nas.predictors.cost import cost
from nas.predictors.energy import Energy
from nas.predictors.energy_predictor import EnergyPredictor, Powers, _bounded, predict_energy
from nas.predictors.energy_profile import COUNTED, missing, numbers_missing, require_same_meter
from nas.predictors.latency_predictor import LatencyPredictor, Prediction
from nas.predictors.latency_table import HELD_OUT, TRAIN, LatencyTable
from nas.predictors.target import Target


def joules(architecture):
    """Four watts for as long as it takes, and more for its MACs."""
    return 4.0 * latency(architecture) + 3e-10 * cost(architecture, num_classes=10).macs


def energy(value, target=None, meter="known"):
    return Energy(value, value * 0.99, value * 1.01, 2.0, 1e-3, 100, meter, str(target or Target()))


def with_energies(noise=0.01, train=40, held_out=20, counted=30, power=joules):
    rng, table = random.Random(1), made_table(train=0, census=25)
    for architecture in sampled("train", train):
        table.add(architecture, measured(latency(architecture) * rng.lognormvariate(0, 0.1)))
    for architecture in sampled("held", held_out):
        table.add(architecture, measured(latency(architecture)), HELD_OUT)
    for role, number in ((TRAIN, counted), (HELD_OUT, held_out)):
        for item in list(table.of_role(role))[:number]:
            table.add_energy(item.architecture, energy(power(item.architecture) * rng.lognormvariate(0, noise)))
    return table


@pytest.fixture(scope="module")
def predictor():
    return EnergyPredictor.fit(LatencyPredictor.fit(with_energies()))


NEW = sampled("new", 30)


def test_new_networks_are_predicted_from_thirty_that_were_counted_however_noisy_their_times(predictor):
    truth = [joules(architecture) for architecture in NEW]
    assert mape(predictor.predict(NEW).mean, truth) < 0.025
    found = predictor.assess(NEW, truth)
    assert found.spearman > 0.97
    assert found.coverage_90 >= 0.85
    assert predictor.assessment().n == 20


def test_more_than_the_latency_is_learned():
    """Where the power differs threefold between networks, one power for all would be off by more than this."""
    table = with_energies(power=lambda a: joules(a) + 4e-9 * cost(a, num_classes=10).macs)
    found = EnergyPredictor.fit(LatencyPredictor.fit(table))
    truth = [joules(a) + 4e-9 * cost(a, num_classes=10).macs for a in NEW]
    times = np.array([latency(a) for a in NEW])
    one_power = times * np.median(np.array(truth) / times)
    assert found.model != "one power"
    assert mape(found.predict(NEW).mean, truth) < 0.5 * mape(one_power, truth)


def test_the_upper_end_holds_for_nearly_all(predictor):
    truth = np.array([joules(architecture) for architecture in NEW])
    assert (truth <= predictor.upper(NEW, 0.95)).mean() >= 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 0.99), st.floats(0.001, 0.009))
def test_intervals_hold_the_mean_and_grow_with_the_confidence(predictor, seed, confidence, more):
    one = [SPACE.sample(random.Random(seed))]
    found = predictor.predict(one)
    low, high = predictor.interval(one, confidence)
    assert 0 < low[0] <= found.mean[0] <= high[0]
    assert found.std[0] > 0
    wider = predictor.interval(one, confidence + more)
    assert wider[0][0] <= low[0]
    assert high[0] <= wider[1][0]
    assert predictor.upper(one, confidence)[0] >= found.mean[0]


def test_an_energy_that_is_known_better_than_its_latency_says_so(predictor):
    """Latencies of the table scatter by a tenth, energies by a hundredth, and both follow from the work."""
    truth = np.array([joules(architecture) for architecture in NEW])
    low, high = predictor.interval(NEW)
    early, late = predictor.latency.interval(NEW)
    assert (np.log(high / low) < 0.5 * np.log(late / early)).all()
    assert ((low <= truth) & (truth <= high)).mean() >= 0.85


def hidden(architecture, seed):
    """What makes a network faster or slower that nothing tells, and that its energy follows."""
    return latency(architecture) * random.Random(f"{seed}{architecture.digest}").lognormvariate(0, 0.12)


def hidden_table(train, seed):
    table = made_table(train=0, census=25)
    for architecture in sampled("train", train):
        table.add(architecture, measured(hidden(architecture, seed)))
        table.add_energy(architecture, energy(4.0 * hidden(architecture, seed)))
    return table


def test_what_nothing_tells_of_latencies_is_in_the_intervals_of_energies():
    """In the mean: what twelve networks say of the width of an interval differs much from twelve to twelve."""
    new, inside, under = sampled("hidden", 150), [], []
    for seed in range(3):
        found = EnergyPredictor.fit(LatencyPredictor.fit(hidden_table(12, seed)))
        truth = np.array([4.0 * hidden(architecture, seed) for architecture in new])
        low, high = found.interval(new)
        inside.append(((low <= truth) & (truth <= high)).mean())
        under.append((truth <= found.upper(new)).mean())
    assert 0.85 <= np.mean(inside) <= 0.99
    assert np.mean(under) >= 0.9


def test_powers_are_learned_from_latencies_that_were_left_out(predictor, monkeypatch):
    latencies, asked = predictor.latency, []
    known = latencies.left_out
    monkeypatch.setattr(latencies, "left_out", lambda some: asked.extend(some) or known(some))
    EnergyPredictor.fit(latencies)
    assert {item.digest for item in asked} == latencies.table.energies.keys() - {
        item.architecture.digest for item in latencies.table.of_role(HELD_OUT)
    }


def test_a_power_that_would_have_to_leave_all_that_was_counted_widens_the_interval(predictor):
    """Latencies that come out three times too long, which no power that was counted undoes."""
    rng = np.random.default_rng(0)
    known, mean, deviation = rng.uniform(0, 0.2, 20), np.array([0.1, 0.1, 2.0]), np.zeros(3)
    found = _bounded(known, mean, deviation)
    assert found.mean[2] == pytest.approx(known.max() + np.ptp(known) / 2)
    assert found.beyond.tolist() == pytest.approx([0, 0, 2.0 - found.mean[2]])
    widths = predictor._width(found, Prediction(np.ones(3), np.full(3, predictor._usual)))
    assert widths[0] == widths[1] == pytest.approx(predictor._floor)
    assert widths[2] > found.beyond[2]


def test_latencies_that_come_out_far_from_all_known_ones_widen_the_interval_of_the_energy(monkeypatch):
    table = with_energies(power=lambda a: 4e-9 * cost(a, num_classes=10).macs)
    found = EnergyPredictor.fit(LatencyPredictor.fit(table))
    assert found.model != "one power"
    before = np.subtract(*np.log(found.interval(NEW)[::-1]))
    known = found.latency.predict

    def slow(asked):
        usual = known(asked)
        return Prediction(30 * usual.mean, 30 * usual.std)

    monkeypatch.setattr(found.latency, "predict", slow)
    assert (np.subtract(*np.log(found.interval(NEW)[::-1])) > 3 * before).all()


def test_only_the_part_of_an_error_that_the_latency_may_cause_grows_with_it(predictor):
    usual = predictor._usual
    power, time = Powers(np.zeros(2), np.array([10 * usual, 0.1 * usual]), np.zeros(2)), np.full(2, 3 * usual)
    widths = predictor._width(power, Prediction(np.ones(2), time))
    assert widths == pytest.approx([usual * (100 + 8) ** 0.5, 0.3 * usual])


def test_the_energy_is_less_certain_where_the_latency_is(predictor, monkeypatch):
    before, known = predictor.upper(NEW), predictor.latency.predict
    monkeypatch.setattr(predictor.latency, "predict", lambda asked: replace(known(asked), std=known(asked).std * 3))
    assert (predictor.upper(NEW) > 1.02 * before).all()


def test_a_table_without_energies_is_refused_with_the_command_that_counts_them():
    latencies = LatencyPredictor.fit(with_energies(counted=7))
    with pytest.raises(MeasurementError, match=r"energy of 7 networks, and a prediction needs 8; count them by `nas profile"):
        predict_energy(latencies, NEW)


def test_a_table_keeps_its_energies_and_one_without_them_is_read(tmp_path):
    table = with_energies()
    table.save(tmp_path / "t.json")
    assert LatencyTable.load(tmp_path / "t.json") == table
    plain = made_table()
    plain.save(tmp_path / "plain.json")
    assert '"energies"' not in (tmp_path / "plain.json").read_text()
    assert LatencyTable.load(tmp_path / "plain.json").energies == {}
    broken = (tmp_path / "t.json").read_text().replace('"joules"', '"calories"', 1)
    (tmp_path / "broken.json").write_text(broken)
    with pytest.raises(FileError, match=r"broken.json is damaged \(not an energy"):
        LatencyTable.load(tmp_path / "broken.json")


def test_an_energy_belongs_to_a_network_of_the_table_and_to_its_target():
    table = made_table()
    known = next(iter(table.networks.values())).architecture
    for architecture, target in ((NEW[0], Target()), (known, Target(threads=2))):
        with pytest.raises(UsageError, match="does not belong into the table"):
            table.add_energy(architecture, energy(1.0, target))


def test_a_part_of_the_networks_is_counted_each_once():
    table = with_energies(held_out=20, counted=0)
    table.energies.clear()
    wanted = missing(table)
    roles = [table.networks[item.digest].role for item in wanted]
    assert (roles.count(TRAIN), roles.count(HELD_OUT)) == (30, 10) == tuple(COUNTED.values())
    for done, architecture in enumerate(wanted[:25]):
        assert len(missing(table)) == 40 - done
        table.add_energy(architecture, energy(1.0))
        assert architecture not in missing(table)
    assert sum(numbers_missing(table, 40, 20).values()) == 15
    assert sum(numbers_missing(table, 8, 2).values()) == 15, "the table has more networks than are asked for"
    assert numbers_missing(None, 8, 2) == {TRAIN: 8, HELD_OUT: 2}


def test_energies_of_two_meters_are_kept_apart(tmp_path):
    table = with_energies()
    require_same_meter(table, type("Known", (), {"name": "known"}), tmp_path)
    with pytest.raises(FileError, match="has energies counted by known, not by other"):
        require_same_meter(table, type("Other", (), {"name": "other"}), tmp_path)


def test_the_same_table_gives_the_same_predictor(predictor, tmp_path):
    predictor.table.save(tmp_path / "t.json")
    again = EnergyPredictor.fit(LatencyPredictor.fit(LatencyTable.load(tmp_path / "t.json")))
    assert again.model == predictor.model
    assert again.upper(NEW[:5]) == pytest.approx(predictor.upper(NEW[:5]), rel=1e-9)
    assert replace(energy(1.0), joules=2.0) != energy(1.0)
