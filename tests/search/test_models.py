from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.predictors.surrogates import Layout
from nas.predictors.surrogates.boshnas import BoshnasSurrogate
from nas.predictors.surrogates.layout import LABELS
from nas.search.acquisition import expected_hypervolume_improvement, expected_improvement
from nas.search.encoding import Encoding, weisfeiler_lehman
from nas.search.model import GaussianProcess, tamed
from nas.search.pareto import hypervolume_2d, hypervolume_3d
from nas.search.strategies.boshnas import Boshnas
from nas.search.strategies.nsga3 import normalised, reference_directions


def data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, (n, 8)).astype(float)
    return x, x @ np.arange(8.0) + 3.0 * x[:, 0] * x[:, 1]


def test_a_process_learns_and_knows_what_it_does_not_know():
    x, y = data()
    process = GaussianProcess([8]).fit(x[:40], y[:40])
    mean, deviation = process.predict(x[40:])
    assert np.corrcoef(mean, y[40:])[0, 1] > 0.95
    assert process.predict(x[:40])[1].mean() < deviation.mean()
    np.testing.assert_allclose(np.diag(process.covariance(x[40:])), deviation**2, rtol=1e-6, atol=1e-9)


def test_a_process_finds_the_block_that_matters():
    x, y = data()
    noise = np.random.default_rng(1).normal(size=(60, 8))
    kernel = GaussianProcess([8, 8]).fit(np.concatenate([noise, x], axis=1), y).kernel
    assert kernel.weights[1] > kernel.weights[0]


@settings(max_examples=20, deadline=None)
@given(st.floats(-2, 2), st.floats(0.05, 2), st.floats(-2, 2))
def test_the_expected_improvement_is_the_mean_of_improvements(mean, deviation, best):
    draws = mean + deviation * np.random.default_rng(0).standard_normal(40_000)
    found = expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert found == pytest.approx(np.maximum(best - draws, 0).mean(), abs=0.03)


@pytest.mark.parametrize("known", [False, True])
def test_the_expected_hypervolume_improvement_is_the_mean_of_improvements(known):
    rng, front, reference = np.random.default_rng(0), [(0.2, 0.8), (0.5, 0.4), (0.9, 0.1)], (1.0, 1.0)
    means, deviations = rng.random((4, 2)), np.array([[0.15, 0.0 if known else 0.15]] * 4)
    found = expected_hypervolume_improvement(means, deviations, front, reference)
    for value, mean, deviation in zip(found, means, deviations, strict=True):
        drawn = mean + deviation * rng.standard_normal((4000, 2))
        grown = [hypervolume_2d([*front, tuple(point)], reference) for point in drawn]
        assert value == pytest.approx(np.mean(grown) - hypervolume_2d(front, reference), abs=0.01)


def test_the_expected_growth_of_a_volume_is_the_mean_of_growths():
    rng, reference = np.random.default_rng(0), (1.0, 1.0, 1.0)
    front = [(0.2, 0.8, 0.5), (0.5, 0.4, 0.6), (0.9, 0.1, 0.2), (0.4, 0.5, 0.9), (0.3, 1.2, 0.1)]
    means = np.concatenate([rng.random((5, 3)), [[0.1, 1.1, 0.1]]])
    deviations = np.array([[0.15, 0.0, 0.0]] * 6)
    found = expected_hypervolume_improvement(means, deviations, front, reference)
    for value, mean, deviation in zip(found, means, deviations, strict=True):
        drawn = mean + deviation * rng.standard_normal((4000, 3))
        grown = [hypervolume_3d([*front, tuple(point)], reference) for point in drawn]
        assert value == pytest.approx(np.mean(grown) - hypervolume_3d(front, reference), abs=0.01)
    assert found[-1] == 0.0
    alone = expected_hypervolume_improvement(means[:1], deviations[:1], [], reference)[0]
    box = np.prod(1.0 - means[0, 1:])
    assert alone == pytest.approx(box * expected_improvement(means[:1, 0], deviations[:1, 0], 1.0)[0])


def test_costs_that_are_outliers_are_tamed_and_keep_their_order():
    costs = np.array([1.0, 1.1, 1.2, 1.3, 90.0])
    assert tamed(costs)[-1] < 2.0
    assert (np.argsort(tamed(costs)) == np.argsort(costs)).all()
    assert (tamed(costs)[:4] == costs[:4]).all()


def test_graphs_that_differ_in_order_alone_have_different_labels(problem):
    encoding = Encoding(problem.space)
    space = problem.space
    first = space.decode({**space.encode(space.largest()), "s1b0.mixer": "window_attention", "s1b1.mixer": "depthwise_conv"})
    second = space.decode({**space.encode(space.largest()), "s1b0.mixer": "depthwise_conv", "s1b1.mixer": "window_attention"})
    assert (weisfeiler_lehman(space.graph(first), 0) == weisfeiler_lehman(space.graph(second), 0)).all()
    assert (encoding.graphs([first]) != encoding.graphs([second])).any()


def test_rounding_gene_features_gives_their_codes(problem):
    encoding = Encoding(problem.space)
    codes = np.random.default_rng(0).integers(0, encoding.counts, (30, len(encoding.active)))
    noisy = encoding.genes(codes) + np.random.default_rng(1).uniform(-0.2, 0.2, (30, encoding.width))
    assert (encoding.rounded(noisy) == codes).all()


def test_the_networks_that_boshnas_descends_have_the_gradients_of_what_they_predict():
    rng = np.random.default_rng(0)
    x = rng.random((120, 3))
    y = 2 * x[:, 0] - x[:, 1] + np.where(x[:, 2] > 0.5, 0.5, 0.02) * rng.standard_normal(120)
    model = BoshnasSurrogate(seed=1)
    model.fit(x, y)
    inside = torch.tensor(rng.uniform(0.3, 0.7, (5, 3)), requires_grad=True)
    mean, deviation = model.summary(inside)
    np.testing.assert_allclose(mean.detach().numpy(), model.latent(inside.detach().numpy())[0])
    np.testing.assert_allclose(deviation.detach().numpy(), model.latent(inside.detach().numpy())[1])
    (gradient,) = torch.autograd.grad(mean.sum(), inside)
    assert gradient.mean(0).numpy() == pytest.approx([2, -1, 0], abs=0.4)
    noisy, quiet = (model.summary(torch.tensor([[0.5, 0.5, z]]))[1].item() for z in (0.8, 0.2))
    assert noisy > 4 * quiet
    with pytest.raises(UsageError, match="without labels"):
        BoshnasSurrogate(Layout(((LABELS, 3),))).fit(x, y).summary(inside)


def test_boshnas_descends_to_a_lower_optimistic_cost(problem, fake):
    found = Boshnas(problem, 0)
    trials = fake.advance(problem, found, 0, 40)
    found.fit(trials, np.random.default_rng(0))
    codes = np.random.default_rng(1).integers(0, found.encoding.counts, (24, len(found.encoding.active)))
    assert found.value(found.improved(codes)).mean() > found.value(codes).mean() + 2 * found.value(codes).std()


def test_a_process_that_knows_of_noise_does_not_believe_few_values():
    x, y = data(12)
    x, y = np.concatenate([x, x[:1]]), np.append(y, y[0] - 20.0)
    trusting, wary = (GaussianProcess([8], noisy=told).fit(x, y) for told in (False, True))
    assert wary.kernel.noise >= 0.2
    clean = GaussianProcess([8]).fit(x[:-1], y[:-1]).kernel.noise
    assert clean < 0.2 <= GaussianProcess([8], noisy=True).fit(x[:-1], y[:-1]).kernel.noise
    assert wary.predict(x)[0].std() < trusting.predict(x)[0].std()


def test_a_process_in_single_precision_predicts_the_same():
    x, y = data()
    double, single = (
        GaussianProcess([8], precision).fit(x[:40], y[:40]).predict(x[40:]) for precision in (np.float64, np.float32)
    )
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("objectives", "count", "expected"), [(2, 40, 40), (3, 92, 91), (1, 10, 1)])
def test_reference_directions_fill_the_simplex(objectives, count, expected):
    found = reference_directions(objectives, count)
    assert found.shape == (expected, objectives)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert len(np.unique(found, axis=0)) == expected


def test_normalised_costs_have_their_extremes_at_one():
    angles = np.linspace(0, np.pi / 2, 20)
    costs = np.stack([100 + 10 * np.cos(angles), 5 + np.sin(angles)], axis=1)
    np.testing.assert_allclose(normalised(costs).max(axis=0), 1.0, atol=1e-6)
