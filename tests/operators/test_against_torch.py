"""Operators against implementations that are not ours: torch's own layers, published formulas, and counted operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas.search_spaces.operators.token_mixers.neighbourhood_attention import axis_plan
from nas.search_spaces.registry import Kind, operator, operators


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def mixer(name: str, width: int = 16, size: int = 8, kind: Kind = Kind.TOKEN_MIXER, **settings: Any) -> Any:
    found = operator(kind, name)
    found.check(settings, width, size)
    module = found.module(width, size, **settings)
    for parameter in module.parameters():
        parameter.data.add_(torch.randn_like(parameter.data) * 0.2)
    return module


def as_multihead(module: Any, heads: int) -> nn.MultiheadAttention:
    """torch's own attention with the projections of one of ours."""
    theirs = nn.MultiheadAttention(module.q.in_features, heads, batch_first=True)
    parts = (module.q, module.k, module.v)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(module.out.state_dict())
    return theirs


def same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_global_attention_is_multihead_attention(heads: int) -> None:
    module, x = mixer("global_attention", heads=heads), torch.randn(2, 5, 7, 16)
    tokens = x.flatten(1, 2)
    same(module(x), as_multihead(module, heads)(tokens, tokens, tokens)[0].view_as(x))


def test_attention_with_a_neighbourhood_or_window_as_large_as_the_map_is_multihead_attention() -> None:
    x = torch.randn(2, 7, 7, 16)
    tokens = x.flatten(1, 2)
    for module in (
        mixer("neighbourhood_attention", size=7, heads=2, kernel=7, dilation=1),
        mixer("window_attention", size=7, heads=2, window=7, shift=False),
    ):
        for name, parameter in module.named_parameters():
            if name == "position.table":
                parameter.data.zero_()
        same(module(x), as_multihead(module, 2)(tokens, tokens, tokens)[0].view_as(x))


def test_spatial_reduction_attention_is_multihead_attention_to_the_reduced_map() -> None:
    module, x = mixer("spatial_reduction_attention", heads=2, reduction=4), torch.randn(2, 8, 12, 16)
    coarse = F.conv2d(x.movedim(-1, 1), module.reduce.weight, module.reduce.bias, stride=4).flatten(2).mT
    coarse = F.layer_norm(coarse, (16,), module.norm.weight, module.norm.bias)
    same(module(x), as_multihead(module, 2)(x.flatten(1, 2), coarse, coarse)[0].view_as(x))


def test_zeros_complete_a_map_that_is_no_multiple_of_the_reduction() -> None:
    module, x = mixer("spatial_reduction_attention", heads=2, reduction=4), torch.randn(2, 6, 9, 16)
    padded = F.pad(x, (0, 0, 0, 3, 0, 2))
    same(module(x), module(padded)[:, :6, :9])


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 3)])
def test_depthwise_conv_is_a_grouped_convolution(kernel: int, dilation: int) -> None:
    module, x = mixer("depthwise_conv", kernel=kernel, dilation=dilation), torch.randn(2, 6, 9, 16)
    padding = kernel // 2 * dilation
    theirs = F.conv2d(x.movedim(-1, 1), module.conv.weight, module.conv.bias, 1, padding, dilation, 16)
    same(module(x), theirs.movedim(1, -1))


@pytest.mark.parametrize("size", [6, 7])
def test_global_filter_is_the_product_of_spectra(size: int) -> None:
    module, x = mixer("global_filter", size=size), torch.randn(2, size, size, 16)
    weight = torch.view_as_complex(torch.fft.ifftshift(module.filter.detach(), dim=0).contiguous())
    theirs = torch.fft.irfft2(torch.fft.rfft2(x, dim=(1, 2)) * weight, s=(size, size), dim=(1, 2))
    same(module(x), theirs)


@pytest.mark.parametrize("shape", [(8, 8), (5, 12), (1, 1), (30, 7)])
def test_a_filter_of_ones_changes_nothing_on_any_map(shape: tuple[int, int]) -> None:
    module, x = mixer("global_filter"), torch.randn(2, *shape, 16)
    module.filter.data.copy_(torch.tensor([1.0, 0.0]))
    same(module(x), x)


def test_an_interpolated_filter_keeps_its_response_at_equal_frequencies() -> None:
    module, half = mixer("global_filter", size=8), torch.arange(16)
    wave = torch.cos(2 * torch.pi * (half[:, None] - half[None, :]) / 8)[None, :, :, None].expand(1, 16, 16, 16)
    same(module(wave.contiguous())[:, :8, :8], module(wave[:, :8, :8].contiguous()))


def test_a_central_crop_of_a_filter_is_its_low_frequencies() -> None:
    large, small = mixer("global_filter", size=12), mixer("global_filter", size=8)
    small.filter.data.copy_(large.filter.data[2:10, :5])
    for u, v in ((0, 0), (1, 2), (-3, 1), (2, 0)):
        response = []
        for module, size in ((large, 12), (small, 8)):
            n = torch.arange(size)
            angle = 2 * torch.pi * (u * n[:, None] + v * n[None, :]) / size
            out = module(torch.cos(angle)[None, :, :, None].expand(1, -1, -1, 16).contiguous())
            response.append((out * torch.cos(angle)[None, :, :, None]).mean((1, 2)))
        same(response[0], response[1])


def test_pooling_is_zero_on_a_constant_map_up_to_its_edges() -> None:
    same(mixer("pooling", pool=5)(torch.ones(1, 6, 9, 16)), torch.zeros(1, 6, 9, 16))


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_gated_conv_is_the_fused_form_of_the_published_code(order: int) -> None:
    module, x = mixer("gated_conv", order=order, kernel=5), torch.randn(2, 6, 9, 16)
    levels = list(reversed(range(order)))
    widths = [16 >> level for level in levels]
    projections = [module.start, *(module.feed[level] for level in levels)]
    weight, bias = (torch.cat([getattr(layer, name) for layer in projections]) for name in ("weight", "bias"))
    assert weight.shape == (32, 16)
    first, fed = F.linear(x, weight, bias).split((widths[0], sum(widths)), dim=-1)
    kernels, biases = (torch.cat([getattr(module.conv[level], name) for level in levels]) for name in ("weight", "bias"))
    gates = (F.conv2d(fed.movedim(-1, 1), kernels, biases, padding=2, groups=sum(widths)) / 3).movedim(1, -1)
    u = first
    for number, gate in enumerate(gates.split(widths, dim=-1)):
        u = (u if number == 0 else module.lift[levels[number]](u)) * gate
    same(module(x), module.out(u))


def natten_window_start(index: int, length: int, kernel: int, dilation: int) -> int:
    """Where NATTEN 0.14 to 0.17 starts the neighbourhood of a position, for kernel * dilation <= length."""
    reach = kernel // 2 * dilation
    if index - reach < 0:
        return index % dilation
    if index + reach < length:
        return index - reach
    whole = length // dilation * dilation
    if index % dilation < length - whole:
        return whole + index % dilation - 2 * reach
    return whole - dilation + index % dilation - 2 * reach


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (3, 2), (3, 3), (5, 1), (5, 2), (7, 1), (7, 3)])
def test_neighbourhoods_are_those_of_natten_whatever_the_tiling(kernel: int, dilation: int) -> None:
    tilings = set()
    for length in range(kernel * dilation, 71):
        queries, keys, offset, seen = axis_plan(length, kernel, dilation)
        tilings.add(len(queries))
        found: dict[int, set[tuple[int, int]]] = {}
        for residue, tile, query, key in seen.nonzero().tolist():
            position = int(queries[tile, query]) * dilation + residue
            neighbour = int(keys[tile, key]) * dilation + residue
            if position < length and tile * queries.shape[1] + query == int(queries[tile, query]):
                found.setdefault(position, set()).add((neighbour, int(offset[query, key])))
        for index in range(length):
            start = natten_window_start(index, length, kernel, dilation)
            near = range(start, start + kernel * dilation, dilation)
            assert found[index] == {(n, (n - index) // dilation + kernel - 1) for n in near}, f"{index} of {length}"
    assert len(tilings) > 1, "lengths that are cut and lengths that are not"


def test_neighbourhood_attention_needs_memory_in_proportion_to_the_map() -> None:
    for length in (28, 56, 112):
        queries, keys, _, seen = axis_plan(length, 7, 1)
        assert keys.numel() <= 2.6 * length
        assert seen.shape[-1] <= 14, "keys a tile sees along an axis"
        assert queries.numel() <= 1.2 * length


def counted_macs(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module.eval()(x)
    return counter.get_total_flops() // 2


N, C = 64, 16
STATED: Mapping[str, tuple[dict[str, int], Callable[[], float]]] = {
    "depthwise_conv": ({"kernel": 5, "dilation": 1}, lambda: N * C * 25),
    "mbconv": ({"kernel": 5, "ratio": 3}, lambda: N * (2 * C * 48 + 48 * 25)),
    "pooling": ({"pool": 3}, lambda: 0),
    "global_attention": ({"heads": 2}, lambda: 4 * N * C**2 + 2 * N**2 * C),
    "window_attention": ({"heads": 2, "window": 4, "shift": True}, lambda: 4 * N * C**2 + 2 * N * 16 * C),
    "neighbourhood_attention": ({"heads": 2, "kernel": 3, "dilation": 1}, lambda: 4 * N * C**2 + 2 * N * 36 * C),
    "spatial_reduction_attention": (
        {"heads": 2, "reduction": 4},
        lambda: 3 * N * C**2 + 2 * N / 16 * C**2 + 2 * N * N / 16 * C,
    ),
    "linear_attention": ({"heads": 2, "kernel": 5}, lambda: 4 * N * C**2 + 2 * N * C * 8 + N * C + N * C * 25),
    "gated_conv": ({"order": 3, "kernel": 5}, lambda: N * (3 * C**2 + 2 / 3 * C**2 * (1 - 4**-2) + 25 * C * (2 - 2**-2))),
    "global_filter": ({}, lambda: C * (4 * 64 * 5 + 8 * 64 * 5)),
    "mlp": ({"expansion": 3}, lambda: 2 * N * C * 48),
    "conv_mlp": ({"expansion": 3}, lambda: N * (2 * C * 48 + 9 * 48)),
    "gated_mlp": ({"expansion": 3}, lambda: 3 * N * C * 32),
}


@pytest.mark.parametrize("name", STATED)
def test_the_macs_in_the_docstring_are_those_that_run(name: str) -> None:
    settings, macs = STATED[name]
    kinds = (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)
    (kind,) = (op.kind for op in operators() if op.name == name and op.kind in kinds)
    assert counted_macs(mixer(name, kind=kind, **settings), torch.randn(1, 8, 8, 16)) == pytest.approx(macs(), abs=0.5)
