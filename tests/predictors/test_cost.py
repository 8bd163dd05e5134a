import logging
import random
import warnings

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.errors import UsageError
from nas.predictors.cost import Cost, cost, module_cost, node_cost
from nas.search_spaces.backbone import build
from nas.search_spaces.graph import nodes
from nas.search_spaces.presets import load_space

SPACE = load_space("tiny")


def sampled(seed):
    return SPACE.sample(random.Random(seed))


@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None, phases=[Phase.generate])
def test_the_nodes_of_a_network_cost_what_the_network_costs(seed):
    architecture = sampled(seed)
    whole = cost(build(architecture, 10), 32)
    assert cost(architecture, num_classes=10) == whole
    assert Cost.total(node_cost(node) for node in nodes(architecture, None, 3, 10)) == whole


@given(st.integers(0, 10**6))
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_parameters_are_the_modules_parameters(seed):
    architecture = sampled(seed)
    assert cost(architecture, num_classes=7).params == sum(p.numel() for p in build(architecture, 7).parameters())


@given(st.integers(0, 10**6))
@settings(max_examples=4, deadline=None, phases=[Phase.generate])
def test_macs_are_half_of_what_torch_counts_as_flops(seed):
    model = build(sampled(seed), 10).eval()
    # Torch's counter does not know the fused attention of CPUs, but the products that it is made of.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, 3, 32, 32))
    assert 2 * cost(model, 32).macs == counter.get_total_flops()


class Attention(nn.Module):
    def forward(self, q):
        return nn.functional.scaled_dot_product_attention(q, q[..., :3, :], q[..., :3, :2])


class Products(nn.Module):
    def forward(self, q):
        k = q.transpose(1, 2)
        broadcast = torch.zeros(1, 6, 5) @ q[:1].unsqueeze(1)
        return torch.einsum("bnc,bmc->bnm", q, q), torch.einsum("bnc,bnc->bnc", q, q), torch.baddbmm(q @ k, q, k), broadcast


class Fourier(nn.Module):
    def forward(self, x):
        f = torch.fft.rfft2(x, dim=(1, 2), norm="ortho")
        return torch.fft.irfft2(f, s=(x.shape[1], x.shape[2]), dim=(1, 2), norm="ortho"), torch.fft.fft(x, dim=1)


@pytest.mark.parametrize(
    ("module", "shape", "macs", "elements"),
    [
        (nn.Linear(6, 5), (1, 7, 6), 7 * 6 * 5, 35),
        (nn.Conv2d(8, 8, 3, groups=8, padding=1), (1, 8, 4, 4), 9 * 8 * 16, 128),
        (Attention(), (2, 4, 5, 8), 2 * 4 * 5 * 3 * (8 + 2), 2 * 4 * 5 * 2),
        (Products(), (2, 5, 8), 3 * 2 * 25 * 8 + 6 * 5 * 8, 3 * 50 + 80 + 48),
        # real 2-d transforms of 16 points, 8 channels: 16 log2 16 each way; a complex one of 4 points, 32 rows: 2 * 4 log2 4
        (Fourier(), (1, 4, 4, 8), 2 * 8 * 16 * 4 + 32 * 16, 4 * 3 * 8 + 128 + 128),
        (nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Softmax(-1)), (1, 4, 8), 0, 0),
    ],
    ids=["linear", "depthwise", "attention", "products", "fourier", "elementwise"],
)
def test_macs_and_activations_follow_the_formula(module, shape, macs, elements):
    found = module_cost(module, (torch.zeros(shape),))
    assert (found.macs, found.activation_bytes) == (macs, 4 * elements)


def test_counting_says_nothing_and_leaves_the_module_as_it_was(caplog, capsys):
    model = build(sampled(0), 10).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        cost(model, 32)
    assert not caplog.records
    assert capsys.readouterr() == ("", "")
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_larger_image_costs_more_but_has_the_same_parameters():
    architecture = sampled(1)
    small, large = cost(architecture), cost(architecture, 64)
    assert large.macs > 2 * small.macs
    assert large.params == small.params


def test_a_module_needs_a_resolution():
    with pytest.raises(UsageError, match="give a resolution"):
        cost(nn.Identity())
