"""What every surrogate promises, and what the parts of the better ones compute."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UnknownNameError, UsageError
from nas.predictors.surrogates import Layout, surrogate, surrogate_names, surrogate_summary
from nas.predictors.surrogates.kernels import FittedKernel, Kernel, squared_distances
from nas.predictors.surrogates.layout import AMOUNTS, CHOICES, LABELS, PROXIES, SUMMARY, join
from nas.predictors.surrogates.process import Process
from nas.predictors.surrogates.scale import Scale
from nas.predictors.surrogates.table import Prices
from nas.predictors.surrogates.transfer import spread

EVERY = pytest.mark.parametrize("name", surrogate_names())
SMOOTH = [name for name in surrogate_names() if name not in ("auto", "ensemble", "boosting", "table_boosting", "boshnas")]
"""Those in which rounding stays rounding: trees may split elsewhere, and long optimisations end elsewhere."""
POSITIVE = st.floats(0.01, 100)


def counts(n, seed=0, noise=0.0):
    """Networks of four kinds of operators in six places, their times, and the layout of their features."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 4, (n, 6))
    hot = (kinds[:, :, None] == np.arange(4)).astype(float)
    amounts = hot.sum(1)
    features, layout = join({AMOUNTS: [amounts], CHOICES: [hot], SUMMARY: [amounts @ [1.0, 2, 5, 1]], LABELS: [amounts]})
    times = 2 + amounts @ [0.1, 0.5, 1.5, 0.2]
    return features, times * np.exp(noise * rng.standard_normal(n)), layout


@EVERY
@pytest.mark.parametrize("scale", ["log", "rank"])
def test_new_rows_are_predicted_far_better_than_by_a_constant(name, scale):
    features, values, layout = counts(120, noise=0.01)
    model = surrogate(name, layout=layout, scale=scale).fit(features[:60], values[:60])
    mean, deviation = model.predict(features[60:])
    assert mean.shape == deviation.shape == (60,)
    assert (deviation > 0).all()
    assert np.abs(mean - values[60:]).mean() < 0.45 * np.abs(values[60:] - np.median(values[:60])).mean()
    assert model.assess(features[60:], values[60:]).kendall > 0.6


@pytest.mark.parametrize("name", ["auto", "boosting", "boshnas", "transfer"])
def test_the_same_seed_gives_the_same_predictions(name):
    features, values, layout = counts(40, noise=0.05)
    first, second = (surrogate(name, layout=layout, scale="log", seed=3).fit(features, values) for _ in range(2))
    for one, other in zip(first.predict(features), second.predict(features), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_unit_of_the_values_does_not_matter(name):
    features, values, layout = counts(40, noise=0.05)
    plain = surrogate(name, layout=layout, scale="log").fit(features, values).predict(features)
    scaled = surrogate(name, layout=layout, scale="log").fit(features, 1000 * values).predict(features)
    for one, other in zip(plain, scaled, strict=True):
        np.testing.assert_allclose(1000 * one, other, rtol=1e-3)


@EVERY
def test_features_without_a_layout_are_taken_whole(name):
    rng = np.random.default_rng(0)
    features = rng.random((60, 3))
    values = 1 + features @ [1.0, 2, 3]
    mean, _ = surrogate(name, scale="log").fit(features[:40], values[:40]).predict(features[40:])
    assert np.corrcoef(mean, values[40:])[0, 1] > 0.7


@EVERY
def test_nothing_is_predicted_before_fitting(name):
    with pytest.raises(UsageError, match="before fit"):
        surrogate(name).predict(np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("features", "values", "words"),
    [
        (np.zeros((4, 2)), np.ones(4), "at least 5 rows"),
        (np.zeros((6, 2)), np.ones(5), r"got \(6, 2\) and \(5,\)"),
        (np.full((6, 2), np.nan), np.ones(6), "finite"),
        (np.zeros((6, 2)), np.arange(6.0), "positive values, got 0"),
    ],
)
def test_unusable_rows_are_refused(features, values, words):
    with pytest.raises(UsageError, match=words):
        surrogate("ridge", scale="log").fit(features, values)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge'"):
        surrogate("rigde")
    assert surrogate_names() == sorted(surrogate_names())
    assert all(surrogate_summary(name) for name in surrogate_names())


def test_features_of_another_width_than_the_layout_are_refused():
    features, values, layout = counts(20)
    with pytest.raises(UsageError, match="as their layout says"):
        surrogate("ridge", layout=layout).fit(features[:, 1:], values)


@given(prices=st.lists(POSITIVE, min_size=4, max_size=4), constant=POSITIVE, relative=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_table_finds_the_prices_of_exact_sums(prices, constant, relative):
    amounts = np.random.default_rng(0).integers(0, 5, (40, 4)).astype(float)
    values = constant + amounts @ np.array(prices)
    np.testing.assert_allclose(Prices.fit(amounts, values, relative)(amounts), values, rtol=1e-5)


def test_a_disturbed_measurement_does_not_move_the_prices():
    amounts = np.random.default_rng(0).integers(0, 5, (60, 4)).astype(float)
    values = 1 + amounts @ np.array([1.0, 2, 3, 4])
    disturbed = values.copy()
    disturbed[:3] *= 5
    assert np.abs(Prices.fit(amounts, disturbed, True)(amounts) / values - 1).max() < 0.03


def test_prices_are_never_negative():
    amounts = np.random.default_rng(0).random((50, 3))
    assert (Prices.fit(amounts, 5 - 4 * amounts[:, 0], False).prices >= 0).all()


@given(values=st.lists(st.floats(0.5, 99), min_size=5, max_size=40), name=st.sampled_from(["linear", "log", "rank"]))
@settings(max_examples=50, deadline=None)
def test_scales_keep_the_order_and_come_back(values, name):
    given_values = np.array(values)
    scale = Scale.fit(name, given_values)
    latent = scale.forward(given_values)
    np.testing.assert_allclose(scale.backward(latent), given_values, rtol=1e-6)
    assert (np.diff(latent[np.argsort(given_values)]) >= 0).all()


def test_the_rank_scale_goes_on_beyond_its_values():
    scale = Scale.fit("rank", np.arange(20.0))
    assert scale.backward(np.array([5.0]))[0] > 19
    assert scale.backward(np.array([-5.0]))[0] < 0


def test_the_means_of_a_process_are_the_same_without_deviations():
    features, values, layout = counts(60, noise=0.05)
    forms = ("linear", "share", "smooth", "rough")
    pilot = np.linspace(1, 2, 60)
    process = Process.fit([Kernel(form, (AMOUNTS,)) for form in forms], layout, features[:40], np.log(values[:40]), pilot[:40])
    mean, _ = process.predict(layout, features[40:], pilot[40:])
    assert process.mean(layout, features[40:], pilot[40:]) == pytest.approx(mean)
    assert np.ptp(mean) > 0.01


def test_left_out_rows_are_predicted_as_if_they_had_never_been_there():
    features, values, layout = counts(40, noise=0.05)
    process = Process.fit(
        (Kernel("linear", (AMOUNTS,)), Kernel("smooth", (CHOICES,), 2.0)), layout, features, values, np.ones(40)
    )
    fold, rest = np.arange(8), np.arange(8, 40)
    mean, deviation = process.left_out(values, fold)
    centre = values[rest].mean()
    inverse = np.linalg.inv(process.covariance[np.ix_(rest, rest)])
    cross = process.covariance[np.ix_(fold, rest)]
    np.testing.assert_allclose(mean, centre + cross @ inverse @ (values[rest] - centre), rtol=1e-6)
    variance = process.covariance[fold, fold] - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    np.testing.assert_allclose(deviation, process.unit * np.sqrt(np.maximum(variance, process.weights[-1])), rtol=1e-6)


@pytest.mark.parametrize("form", ["linear", "share", "smooth", "rough", "cosine"])
def test_kernels_are_positive_semidefinite(form):
    features, values, layout = counts(30)
    made, rows = FittedKernel.fit(Kernel(form, (CHOICES,), 1.5), layout, features, values)
    gram = made.between(rows, rows)
    np.testing.assert_allclose(gram, gram.T, atol=1e-12)
    assert np.linalg.eigvalsh(gram).min() > -1e-9


def test_squared_distances_are_those_of_the_definition():
    first, second = np.random.default_rng(0).random((5, 3)), np.random.default_rng(1).random((4, 3))
    np.testing.assert_allclose(squared_distances(first, second), ((first[:, None] - second) ** 2).sum(2), atol=1e-12)


def test_the_ensemble_weighs_by_what_left_out_rows_say():
    features, values, layout = counts(80, noise=0.02)
    weights = surrogate("auto", layout=layout, scale="log").fit(features, values).weights
    assert sum(weights.values()) == pytest.approx(1)
    assert sum(weights.get(name, 0) for name in ("table", "table_absolute")) >= 0.5
    curved = np.exp(np.sin(features[:, 0]) + 0.5 * features[:, 5])
    assert "table" not in surrogate("auto", layout=layout, scale="log").fit(features, curved).weights


def test_intervals_hold_the_share_that_they_promise():
    features, values, layout = counts(400, noise=0.05)
    found = surrogate("auto", layout=layout, scale="log").fit(features[:100], values[:100])
    assert 0.8 <= found.assess(features[100:], values[100:]).coverage_90 <= 0.97


def test_the_heteroscedastic_network_is_less_sure_where_values_are_noisier():
    rng = np.random.default_rng(0)
    features = rng.uniform(-1, 1, (300, 2))
    values = features[:, 1] + np.where(features[:, 0] > 0, 0.5, 0.02) * rng.standard_normal(300)
    _, deviation = surrogate("boshnas").fit(features, values).predict(features)
    assert np.median(deviation[features[:, 0] > 0.2]) > 3 * np.median(deviation[features[:, 0] < -0.2])


def test_a_few_measurements_and_known_targets_make_a_new_target():
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((500, 3))
    known = factors @ rng.standard_normal((3, 8)) * 0.2 + 0.01 * rng.standard_normal((500, 8))
    layout = Layout(((PROXIES, 8),))
    values = 3 * np.exp(known @ [0.5, 0, 0, 0.5, 0, 0, 0, 0])
    chosen = spread(known[:300], 20)
    found = surrogate("transfer", layout=layout, scale="log").fit(known[chosen], values[chosen])
    assert found.assess(known[300:], values[300:]).spearman > 0.98


def test_what_is_measured_is_spread_over_the_directions_of_the_known_targets():
    known = np.random.default_rng(0).standard_normal((200, 4))
    chosen = spread(known, 12)
    assert len(set(chosen)) == 12
    volume = np.linalg.slogdet(known[chosen].T @ known[chosen])[1]
    others = [np.random.default_rng(seed).choice(200, 12, replace=False) for seed in range(20)]
    assert all(volume > np.linalg.slogdet(known[rows].T @ known[rows])[1] for rows in others)
    with pytest.raises(UsageError, match="cannot choose 300 of 200"):
        spread(known, 300)
