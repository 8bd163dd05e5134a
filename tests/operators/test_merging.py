"""Operators that train as parallel branches: one convolution does the same in evaluation, and has the published form."""

from __future__ import annotations

import pytest
import torch

from nas.search_spaces.operators.token_mixers.large_kernel_conv import BRANCHES, LargeKernelConv
from nas.search_spaces.operators.token_mixers.reparam_conv import ReparamConv
from nas.search_spaces.operators.token_mixers.repmixer import RepMixer

MERGING = [
    *(pytest.param(LargeKernelConv, {"kernel": kernel}, id=f"large_kernel_conv-{kernel}") for kernel in BRANCHES),
    *(
        pytest.param(module, {"kernel": kernel}, id=f"{module.__name__}-{kernel}")
        for module in (ReparamConv, RepMixer)
        for kernel in (3, 7)
    ),
]


def trained(module: type[LargeKernelConv], settings: dict[str, int]) -> LargeKernelConv:
    """A module in double precision whose weights and statistics are all different from their defaults."""
    torch.manual_seed(0)
    built = module(8, 11, **settings).double()
    for tensor in (*built.parameters(), *(b for name, b in built.named_buffers() if name.endswith(("_mean", "_var")))):
        tensor.data.add_(torch.rand_like(tensor.data))
    return built


@pytest.mark.parametrize(("module", "settings"), MERGING)
@pytest.mark.parametrize("shape", [(11, 11), (3, 14), (1, 1)])
def test_the_merged_convolution_does_what_the_branches_do(
    module: type[LargeKernelConv], settings: dict[str, int], shape: tuple[int, int]
) -> None:
    branches, x = trained(module, settings).eval(), torch.randn(2, *shape, 8, dtype=torch.float64)
    merged = branches.as_merged()
    assert sum(p.numel() for p in merged.parameters()) == 8 * settings["kernel"] ** 2 + 8
    torch.testing.assert_close(merged(x.movedim(-1, 1)).movedim(1, -1), branches(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", BRANCHES)
def test_the_merged_form_takes_the_weights_of_the_merged_convolution(kernel: int) -> None:
    branches, x = trained(LargeKernelConv, {"kernel": kernel}).eval(), torch.randn(1, 9, 6, 8, dtype=torch.float64)
    merged = LargeKernelConv(8, 11, kernel=kernel, merged=True).double()
    merged.conv.load_state_dict(branches.as_merged().state_dict())
    torch.testing.assert_close(merged(x), branches(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("module", "settings"), MERGING)
def test_training_runs_the_branches_and_updates_their_statistics(
    module: type[LargeKernelConv], settings: dict[str, int]
) -> None:
    branches = trained(module, settings)
    before = {name: b.clone() for name, b in branches.named_buffers() if name.endswith("_mean")}
    branches.train()(torch.randn(4, 9, 9, 8, dtype=torch.float64))
    assert all(not torch.equal(before[name], dict(branches.named_buffers())[name]) for name in before)
