"""Operators that compute one thing in two ways: both give the same, in eager mode, where only one of them is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from nas.search_spaces.operators.positions.rope import _rotated, rotate
from nas.search_spaces.operators.token_mixers.fourier_transform import FourierTransform
from nas.search_spaces.operators.token_mixers.scale_aware_modulation import ScaleAwareModulation, reference


@pytest.fixture
def _in_double() -> Iterator[None]:
    """Modules are built in double precision, tables included."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def assert_ways_agree(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor, tolerance: float) -> None:
    """Outputs, and gradients of the input."""
    found = []
    for way in (one, other):
        leaf = x.clone().requires_grad_()
        out = way(leaf)
        (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
        found.append((out.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_turning_by_complex_products_is_turning_in_real_numbers(heads: int, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, heads * 6, generator=generator, dtype=dtype)
    angles = torch.randn(5, 3, 3, generator=generator, dtype=dtype)
    turns = (angles.cos(), angles.sin())
    assert_ways_agree(lambda y: rotate(y, *turns, heads), lambda y: _rotated(y, *turns, heads), x, tolerance)


@pytest.mark.usefixtures("_in_double")
@pytest.mark.parametrize("orthonormal", [True, False])
@pytest.mark.parametrize("shape", [(6, 6), (5, 3), (1, 7), (1, 1)])
@pytest.mark.parametrize("width", [8, 5, 1])
def test_the_transform_by_products_is_the_fast_one(orthonormal: bool, shape: tuple[int, int], width: int) -> None:
    x = torch.randn(2, *shape, width, generator=torch.Generator().manual_seed(0))
    module = FourierTransform(width, 6, orthonormal=orthonormal)
    assert_ways_agree(module, module.by_products, x, 1e-10)


def test_large_kernels_of_scale_aware_modulation_read_maps_with_channels_last_in_evaluation_and_give_the_same() -> None:
    module = ScaleAwareModulation(24, 18, heads=8, expansion=1)
    x = torch.randn(2, 18, 18, 24, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, bool]] = []
    for conv in module.local:
        conv.register_forward_pre_hook(
            lambda conv, given: seen.append((conv.kernel_size[0], given[0].is_contiguous(memory_format=torch.channels_last)))
        )
    module(x)
    assert not any(last for _, last in seen), "training takes longer so"
    seen.clear()
    module.eval()
    torch.testing.assert_close(module(x), reference(module, x), rtol=1e-4, atol=1e-5)
    assert seen == [(kernel, kernel > 13) for kernel in (3, 5, 7, 9, 11, 13, 15, 17)]
    exported = torch.export.export(module, (x,))
    assert not any("clone" in str(node.target) and node.kwargs for node in exported.graph.nodes), (
        "exported networks copy nothing"
    )
    torch.testing.assert_close(exported.module()(x), module(x), rtol=1e-5, atol=1e-6)
