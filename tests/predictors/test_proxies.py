"""What every zero-cost proxy promises of any network."""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import random

import pytest
import torch
from proxy_networks import batch, coded_one_by_one, convolutional, single, small_batch
from torch import Tensor, nn

import nas
from nas.errors import UnknownNameError, UsageError
from nas.predictors.proxies import LIMIT, proxy, proxy_names, proxy_scores, register_proxy
from nas.predictors.proxies import base as registry
from nas.search_spaces.registry import Kind, names

EVERY = pytest.mark.parametrize("name", proxy_names())
DEAR = [name for name in proxy_names() if name not in ("params", "macs")]
"""Those that run the network; the other two are the cost model's, which has its own tests."""
TINY = nas.load_space("tiny")


def member(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nas.build(TINY.sample(random.Random(seed)), num_classes=10)


def test_the_proxies_that_the_surrogates_use_are_there() -> None:
    wanted = {"params", "macs", "synflow", "naswot", "grad_norm", "snip", "jacov", "zen"}
    assert wanted <= set(proxy_names())
    assert proxy_names() == sorted(proxy_names())


@EVERY
def test_a_proxy_says_where_it_comes_from_and_what_it_computes(name: str) -> None:
    found = proxy(name)
    assert found.name == name
    assert found.cite
    assert inspect.getdoc(found.measure)
    assert set(found.needs) <= {"images", "labels"}


@EVERY
@pytest.mark.parametrize("seed", [2, 7])
def test_a_network_is_left_as_it_was(name: str, seed: int) -> None:
    network = member(seed).eval()
    network.nodes["stem"].requires_grad_(False)
    first = next(parameter for parameter in network.parameters() if parameter.requires_grad)
    first.grad = torch.ones_like(first)
    before, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    asking = [parameter.requires_grad for parameter in network.parameters()]
    images, labels = batch()
    kept, random_state = images.clone(), torch.get_rng_state()
    proxy(name).score(network, images, labels)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == asking
    assert [parameter.grad is not None for parameter in network.parameters()].count(True) == 1
    assert torch.equal(first.grad, torch.ones_like(first))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert torch.equal(images, kept)
    assert not images.requires_grad
    assert torch.equal(torch.get_rng_state(), random_state)


@EVERY
def test_a_score_depends_on_nothing_else(name: str) -> None:
    network, (images, labels) = member(11), batch()
    first = proxy(name).score(network, images, labels)
    torch.manual_seed(99)
    with torch.no_grad():
        assert proxy(name).score(network.eval(), images.double(), labels) == first
    assert isinstance(first, float)
    assert first != 0.0


@EVERY
def test_a_score_looks_at_what_it_needs_alone(name: str) -> None:
    network, (images, labels) = convolutional(), small_batch()
    first = proxy(name).score(network, images, labels)
    other_images = proxy(name).score(network, images.flip(0) * 2 + 0.5 * images, labels)
    other_labels = proxy(name).score(network, images, (labels + 1) % 3)
    assert (other_images != first) == ("images" in proxy(name).needs)
    assert (other_labels != first) == ("labels" in proxy(name).needs)


def test_scores_come_by_name() -> None:
    network, (images, labels) = convolutional(), small_batch()
    every = proxy_scores(network, images, labels)
    assert list(every) == proxy_names()
    assert proxy_scores(network, images, labels, ["snip", "params"]) == {name: every[name] for name in ("snip", "params")}


def test_an_unknown_name_is_answered_with_the_nearest_before_anything_is_computed() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown proxy 'sinflow'\. Did you mean 'synflow'\?"):
        proxy_scores(nn.Identity(), torch.zeros(0), torch.zeros(0), ["params", "sinflow"])


def test_a_batch_that_does_not_fit_is_refused() -> None:
    network, (images, labels) = convolutional(), small_batch()
    with pytest.raises(UsageError, match="at least 2 images"):
        proxy_scores(network, images[:1], labels[:1])
    with pytest.raises(UsageError, match="a label for each"):
        proxy_scores(network, images, labels[:3])
    for name, wrong in itertools.product(("snip", "grad_norm"), (labels + 1, labels - 1)):
        with pytest.raises(UsageError, match="the network has the classes 0 to 2"):
            proxy(name).score(network, images, wrong)


@pytest.mark.parametrize(
    ("value", "score"), [(math.nan, -LIMIT), (math.inf, LIMIT), (-math.inf, -LIMIT), (1e300, LIMIT), (-2.5, -2.5)]
)
def test_every_score_is_finite(monkeypatch: pytest.MonkeyPatch, value: float, score: float) -> None:
    monkeypatch.setattr(registry, "_PROXIES", dict(registry._PROXIES))
    register_proxy("mine", cite="nobody")(lambda network, images, labels: value)
    assert proxy_scores(convolutional(), *small_batch(), ["mine"]) == {"mine": score}


def test_a_measure_gets_a_copy_to_train_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(network: nn.Module, images: Tensor, labels: Tensor) -> float:
        assert network is not given
        assert network.training
        assert torch.is_grad_enabled()
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
        return images.dtype == torch.float64

    monkeypatch.setattr(registry, "_PROXIES", dict(registry._PROXIES))
    register_proxy("mine", cite="nobody")(measure)
    given, (images, labels) = convolutional().eval().requires_grad_(False), small_batch()
    given[0].weight.grad = torch.ones_like(given[0].weight)
    with torch.no_grad():
        assert proxy("mine").score(given, images.float(), labels) == 1.0


@pytest.mark.parametrize("name", DEAR)
def test_weights_that_are_not_numbers_give_the_lowest_score_or_none_at_all(name: str) -> None:
    network, (images, labels) = convolutional(), small_batch()
    with torch.no_grad():
        network[0].weight.fill_(math.nan)
    assert math.isfinite(proxy(name).score(network, images, labels))
    if name in ("snip", "grad_norm", "jacov"):
        assert proxy(name).score(network, images, labels) == -LIMIT


@pytest.mark.parametrize("part", [pytest.param(part, marks=[pytest.mark.thorough] if part else []) for part in range(6)])
def test_scores_of_random_members_are_finite(part: int) -> None:
    for seed in range(5 * part, 5 * part + 5):
        scores = proxy_scores(member(seed), *batch(2), DEAR)
        assert all(abs(score) < LIMIT for score in scores.values()), (seed, scores)


def assert_scored(network: nn.Module) -> dict[str, float]:
    """All scores, which are finite, and the codes of NASWOT those of the images one by one."""
    images, labels = batch(3, 16)
    scores = proxy_scores(network, images, labels, DEAR)
    assert all(abs(score) < LIMIT for score in scores.values()), scores
    found = proxy("naswot").measure(copy.deepcopy(network).eval(), images, labels)
    # Where two tokens are equally significant, rounding decides which of them comes first.
    assert found == pytest.approx(coded_one_by_one(network, images), rel=2e-3)
    return scores


@pytest.mark.parametrize("mixer", names(Kind.TOKEN_MIXER))
def test_every_token_mixer_has_finite_scores(mixer: str) -> None:
    assert_scored(single(mixer))


@pytest.mark.parametrize("mixer", names(Kind.CHANNEL_MIXER))
def test_every_channel_mixer_has_finite_scores(mixer: str) -> None:
    assert_scored(single(channel_mixer=mixer))


@pytest.mark.parametrize("norm", names(Kind.NORM))
def test_every_norm_has_finite_scores(norm: str) -> None:
    assert_scored(single(norm=norm))


@pytest.mark.parametrize("residual", names(Kind.RESIDUAL))
def test_every_residual_has_finite_scores(residual: str) -> None:
    assert_scored(single(residual=residual))
