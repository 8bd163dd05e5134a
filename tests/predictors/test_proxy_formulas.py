"""Each zero-cost proxy against a naive float64 formula."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from proxy_networks import batch, coded_one_by_one, convolutional, logdet, perceptron, single, small_batch
from torch import Tensor, nn
from torch.nn import functional as F

import nas
from nas.predictors.proxies import LIMIT, proxy, proxy_scores
from nas.predictors.proxies import zen as zen_module
from nas.predictors.proxies.interception import NORMS, Intercept
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.layers import Residual
from nas.search_spaces.operators.norms.group_norm import GroupNorm
from nas.search_spaces.operators.residuals.none import NoResidual
from nas.search_spaces.operators.residuals.plain import Plain
from nas.search_spaces.registry import Kind, names, operator


def test_params_and_macs_are_counted() -> None:
    scores = proxy_scores(convolutional(), *small_batch(), ["params", "macs"])
    assert scores["params"] == (2 * 9 + 1) * 5 + 2 * 5 + (5 * 9 + 1) * 4 + (16 + 1) * 3
    assert scores["macs"] == 16 * 5 * 2 * 9 + 4 * 4 * 5 * 9 + 16 * 3


def backpropagated(network: nn.Sequential, x: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights and gradients of the mean cross-entropy of a perceptron with one hidden layer, by the chain rule."""
    first, second = network[0].weight, network[2].weight
    hidden = x @ first.T + network[0].bias
    logits = hidden.clamp(min=0) @ second.T + network[2].bias
    error = logits.exp() / logits.exp().sum(1, keepdim=True)
    error[torch.arange(len(x)), labels] -= 1
    error = error / len(x)
    return [(first, ((error @ second) * (hidden > 0)).T @ x), (second, error.T @ hidden.clamp(min=0))]


def test_snip_and_grad_norm_are_those_of_the_chain_rule() -> None:
    network, x, labels = perceptron(6, 7, 3, bias=True), torch.randn(5, 6).double(), torch.tensor([0, 2, 1, 1, 0])
    pairs = backpropagated(network, x, labels)
    scores = proxy_scores(network, x, labels, ["snip", "grad_norm"])
    assert scores["snip"] == pytest.approx(sum(abs(w * g).sum().item() for w, g in pairs), rel=1e-12)
    assert scores["grad_norm"] == pytest.approx(sum((g * g).sum().sqrt().item() for _, g in pairs), rel=1e-12)


def test_snip_is_the_change_of_the_loss_by_a_mask() -> None:
    network, (images, labels) = convolutional(), small_batch()
    expected = 0.0
    for layer in (0, 3, 6):
        for index in np.ndindex(*network[layer].weight.shape):
            losses = []
            for step in (1e-5, -1e-5):
                moved = copy.deepcopy(network)
                with torch.no_grad():
                    moved[layer].weight[index] *= 1 + step
                    losses.append(F.cross_entropy(moved.train()(images), labels).item())
            expected += abs(losses[0] - losses[1]) / 2e-5
    assert proxy("snip").score(network, images, labels) == pytest.approx(expected, rel=1e-6)


def test_jacov_is_that_of_the_whole_jacobian() -> None:
    network, (images, labels) = convolutional(), small_batch()
    whole = torch.autograd.functional.jacobian(copy.deepcopy(network).train(), images)
    rows = whole.sum((0, 1)).reshape(len(images), -1).numpy()
    values, _ = np.linalg.eig(np.corrcoef(rows))
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert proxy("jacov").score(network, images, labels) == pytest.approx(expected, rel=1e-9)


def test_jacov_punishes_images_that_cannot_be_told_apart() -> None:
    images, labels = small_batch()
    assert proxy("jacov").score(perceptron(5, 3), torch.randn(4, 5).double(), labels[:4]) < -2.9e5
    assert -20 < proxy("jacov").score(convolutional(), images, labels) <= -5 * 0.99


def test_jacov_of_a_network_without_slope_is_undefined() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        network[1].bias.fill_(-1e6)
    assert proxy("jacov").score(network, *small_batch()) == -LIMIT


def normed(x: Tensor) -> Tensor:
    """Batch norm of (B, C, H, W) by its definition."""
    mean = x.mean((0, 2, 3), keepdim=True)
    return (x - mean) / (((x - mean) ** 2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()


def test_naswot_counts_the_bits_that_agree() -> None:
    network, (images, labels) = convolutional(), small_batch()
    first = normed(network[0](images))
    second = network[3](first.clamp(min=0))
    codes = [[v > 0 for v in (*a.flatten().tolist(), *b.flatten().tolist())] for a, b in zip(first, second, strict=True)]
    kernel = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in codes] for one in codes]
    assert kernel[0][0] == 5 * 16 + 4 * 4
    assert proxy("naswot").score(network, images, labels) == pytest.approx(logdet(kernel), rel=1e-12)


class Functional(nn.Module):
    """The activations of `modular` as calls, in place and not, and one that does not depend on the image."""

    def __init__(self, *layers: nn.Linear) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        constant = F.gelu(self.layers[0].weight)
        x = F.gelu(self.layers[0](x.flatten(1)))
        x = self.layers[1](x).sigmoid_()
        x = F.silu(self.layers[2](x), inplace=True) + 0 * constant.sum()
        return torch.tanh(F.hardswish(F.relu(x)))


def test_naswot_sees_activations_that_are_no_modules() -> None:
    torch.manual_seed(1)
    layers = [nn.Linear(72, 9), nn.Linear(9, 8), nn.Linear(8, 7)]
    acts = [nn.GELU(), nn.Sigmoid(), nn.SiLU(), nn.ReLU(), nn.Hardswish(), nn.Tanh()]
    modular = nn.Sequential(nn.Flatten(), layers[0], acts[0], layers[1], acts[1], layers[2], *acts[2:]).double()
    score = proxy("naswot").score(modular, *small_batch())
    assert score > 0
    assert proxy("naswot").score(Functional(*layers), *small_batch()) == score
    assert coded_one_by_one(modular, small_batch()[0]) == pytest.approx(score, rel=1e-12)


def test_naswot_of_what_has_no_regular_kernel_is_zero() -> None:
    images, labels = small_batch()
    assert proxy("naswot").score(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double(), images, labels) == 0.0
    assert proxy("naswot").score(perceptron(72, 1, 3), images.flatten(1), labels) == 0.0


def test_synflow_adds_up_the_paths() -> None:
    network = perceptron(4, 5, 6, 3)
    first, second, third = (layer.weight.tolist() for layer in network if isinstance(layer, nn.Linear))
    paths = sum(
        abs(first[j][i] * second[k][j] * third[n][k])
        for i, j, k, n in itertools.product(range(4), range(5), range(6), range(3))
    )
    score = proxy("synflow").score(network, torch.randn(2, 4), torch.tensor([0, 1]))
    assert score == pytest.approx(math.log(3 * paths), rel=1e-12)


def test_synflow_of_a_convolutional_network_has_neither_norms_nor_signs() -> None:
    network, (images, labels) = convolutional(), small_batch()
    strength = torch.ones(1, 2, 6, 6).double()
    layers = [network[0], network[3]]
    weights = [layer.weight.detach().abs().requires_grad_(True) for layer in (*layers, network[6])]
    for layer, weight in zip(layers, weights, strict=False):
        strength = F.conv2d(strength, weight, layer.bias.abs())
    strength = (strength.flatten(1) @ weights[2].T + network[6].bias.abs()).sum()
    gradients = torch.autograd.grad(strength, weights)
    total = sum((weight * gradient).sum().item() for weight, gradient in zip(weights, gradients, strict=True))
    assert proxy("synflow").score(network, images, labels) == pytest.approx(math.log(total), rel=1e-12)


def test_synflow_is_the_same_in_float32_with_other_activations_and_dropout() -> None:
    network, (images, labels) = convolutional(), small_batch()
    score = proxy("synflow").score(network, images, labels)
    network[2], network[4] = nn.GELU(), nn.Sequential(nn.SiLU(), nn.Dropout())
    assert proxy("synflow").score(network, images, labels) == score
    assert proxy("synflow").score(network.float(), images, labels) == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("norm", [norm for norm in names(Kind.NORM) if norm not in ("rep_batch", "grn")])
def test_synflow_takes_every_norm_for_the_identity(norm: str) -> None:
    score = {name: proxy("synflow").score(single(norm=name), *batch(2, 16)) for name in (norm, "none")}
    assert score[norm] == pytest.approx(score["none"], rel=1e-9)


class Cube(nn.Module):
    """(W x)^3, an operator of degree three."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y**3


def test_synflow_makes_operators_of_degree_one() -> None:
    torch.manual_seed(0)
    cubes = [NoResidual(nn.LayerNorm(4), Cube(4), 4) for _ in range(2)]
    network = nn.Sequential(nn.Linear(4, 4, bias=False), *cubes, nn.Linear(4, 2, bias=False)).double()
    weights = [weight.detach().abs().requires_grad_(True) for weight in network.parameters() if weight.dim() == 2]
    x = torch.ones(1, 4).double() @ weights[0].T
    for weight in weights[1:3]:
        size = x.mean().item()
        x = ((x / size) @ weight.T) ** 3 * size
    gradients = torch.autograd.grad((x @ weights[3].T).sum(), weights)
    total = sum((weight * gradient).sum().item() for weight, gradient in zip(weights, gradients, strict=True))
    images, labels = torch.randn(2, 4), torch.tensor([0, 1])
    score = proxy("synflow").score(network, images, labels)
    assert score == pytest.approx(math.log(total), rel=1e-12)
    with torch.no_grad():
        network[0].weight.mul_(2)
    assert proxy("synflow").score(network, images, labels) == pytest.approx(score + math.log(2), rel=1e-12)


def zen_by_hand(
    shape: tuple[int, ...], weights: list[tuple[int, ...]], run: Callable[..., tuple[Tensor, list[float]]]
) -> float:
    """Algorithm 1: `run(weights, x)` gives the map and the deviations before its norms."""
    torch.manual_seed(0)
    scores = []
    for _ in range(zen_module.REPEATS):
        drawn = [torch.randn(size, dtype=torch.float64) for size in weights]
        x, noise = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
        (before, deviations), (after, _) = run(drawn, x), run(drawn, x + 0.01 * noise)
        change = np.mean([sum(abs(v) for v in (a - b).flatten().tolist()) for a, b in zip(after, before, strict=True)])
        scores.append(math.log(change) + sum(math.log(deviation) for deviation in deviations))
    return float(np.mean(scores))


def test_zen_is_the_reaction_to_noise_times_the_scale_of_batch_norm() -> None:
    def run(weights: list[Tensor], x: Tensor) -> tuple[Tensor, list[float]]:
        y = F.conv2d(x, weights[0])
        deviation = np.sqrt(np.mean([y[:, c].numpy().var() for c in range(y.shape[1])]))
        y = F.conv2d(normed(y).clamp(min=0), weights[1]).clamp(min=0)
        return y.flatten(1) @ weights[2].T, [deviation]

    expected = zen_by_hand((5, 2, 6, 6), [(5, 2, 3, 3), (4, 5, 3, 3), (3, 16)], run)
    assert proxy("zen").score(convolutional(), *small_batch()) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("residual", ["plain", "layer_scale", "sandwich", "post_norm", "dense", "residual_scale", "none"])
def test_zen_removes_residuals(residual: str) -> None:
    torch.manual_seed(0)
    block = operator(Kind.RESIDUAL, residual).module(nn.LayerNorm(6), nn.Linear(6, 6), 6)
    network = nn.Sequential(nn.Linear(4, 6), block)
    where = {"sandwich": (True, True), "post_norm": (False, True)}.get(residual, (True, False))

    def run(weights: list[Tensor], x: Tensor) -> tuple[Tensor, list[float]]:
        y, deviations = x @ weights[0].T, []
        for step, here in (("before", where[0]), ("op", True), ("after", where[1])):
            if step == "op":
                y = y @ weights[-1].T
            elif here:
                variance = ((y - y.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
                deviations.append(variance.mean().sqrt().item())
                y = (y - y.mean(-1, keepdim=True)) / (variance + 1e-5).sqrt()
        return y, deviations

    matrices = {name: tuple(weight.shape) for name, weight in network.named_parameters() if weight.dim() == 2}
    op = list(matrices).index("1.op.weight")
    expected = zen_by_hand((3, 2, 2, 4), list(matrices.values()), lambda weights, x: run([weights[0], weights[op]], x))
    images, labels = torch.zeros(3, 2, 2, 4), torch.tensor([0, 1, 0])
    assert proxy("zen").score(network, images, labels) == pytest.approx(expected, rel=1e-10)


def test_zen_removes_the_way_around_a_re_parameterisable_batch_norm() -> None:
    scores = [proxy("zen").score(single(norm=norm), *batch(3, 16)) for norm in ("batch", "rep_batch")]
    assert scores[1] == pytest.approx(scores[0], rel=1e-9)


def test_zen_reads_the_map_before_the_head() -> None:
    network, (images, labels) = single(), batch(3, 16)
    score = proxy("zen").score(network, images, labels)
    head = network.nodes["head"]
    with torch.no_grad():
        head.linear.weight.zero_()
    assert proxy("zen").score(network, images, labels) == score
    network.nodes["head"] = nn.Linear(16, 5)
    assert proxy("zen").score(network, images, labels) == score


def test_zen_knows_what_each_norm_divides_by() -> None:
    x = torch.randn(3, 4, 2, 6, generator=torch.Generator().manual_seed(2)).double() * 3 + 1
    values = x.numpy()
    wanted = {
        nn.LayerNorm(6): np.mean([values[index].var() for index in np.ndindex(3, 4, 2)]),
        nn.RMSNorm(6): np.mean(values**2),
        nn.BatchNorm2d(4): np.mean([values[:, c].var() for c in range(4)]),
        nn.GroupNorm(2, 4): np.mean([values[b, g : g + 2].var() for b in range(3) for g in (0, 2)]),
        nn.InstanceNorm2d(4): np.mean([values[b, c].var() for b in range(3) for c in range(4)]),
    }
    for norm, variance in wanted.items():
        found: list[float] = []
        with Intercept({name: zen_module._recorder(name, found) for name in NORMS}):
            norm.double()(x)
        assert found == [pytest.approx(math.sqrt(variance), rel=1e-12)], norm


def test_zen_counts_the_group_norm_of_the_spaces_and_the_other_norms_alike() -> None:
    class Tripled(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.norm(3 * x)
            return y

    images, labels = torch.zeros(4, 5, 5, 6).double(), torch.arange(4)
    plain = proxy("zen").score(Tripled(nn.Identity()), images, labels)
    for norm in (GroupNorm(6), nn.LayerNorm(6), nn.RMSNorm(6)):
        # The scale that the norm takes away is put back: what remains is what centring removes, and chance.
        assert proxy("zen").score(Tripled(norm), images, labels) == pytest.approx(plain, abs=0.25)


def test_zen_grows_with_the_depth_of_a_network_with_residuals() -> None:
    def score(depth: int) -> float:
        torch.manual_seed(0)
        blocks: list[Residual] = [Plain(nn.LayerNorm(8), nn.Linear(8, 8), 8) for _ in range(depth)]
        return proxy("zen").score(nn.Sequential(*blocks), torch.zeros(4, 3, 3, 8), torch.arange(4))

    scores = [score(depth) for depth in (1, 2, 4, 8)]
    assert scores == sorted(scores)
    assert scores[3] - scores[2] > 2


@pytest.mark.parametrize("residual", ["layer_scale", "residual_scale"])
def test_zen_removes_the_residuals_of_parallel_branches(residual: str) -> None:
    mixers = (
        Op.of("depthwise_conv", kernel=3, dilation=1),
        Op("pooling", operator(Kind.TOKEN_MIXER, "pooling").legal_settings(8, 8)[0]),
    )
    stage = Stage(16, "layer", None, (Block(mixers, None, split=0.5),), Op(residual))
    network, (images, labels) = nas.build(Architecture(16, Op.of("conv", stride=2), (stage,)), 10), batch(2, 16)
    score = proxy("zen").score(network, images, labels)
    scales = [parameter for name, parameter in network.named_parameters() if name.endswith(("scale", "stream"))]
    with torch.no_grad():
        for parameter in scales:
            parameter.mul_(7)
    assert len(scales) == 1
    assert proxy("zen").score(network, images, labels) == score
