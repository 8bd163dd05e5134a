"""Small networks that every test of the results shares."""

from __future__ import annotations

import pytest
import torch

from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.backbone import Backbone, build

MLP = Op.of("mlp", expansion=2)


def conv(kernel: int, dilation: int = 1) -> Block:
    return Block((Op.of("depthwise_conv", kernel=kernel, dilation=dilation),), MLP)


def attention(window: int, shift: bool) -> Op:
    return Op.of("window_attention", heads=2, window=window, shift=shift)


@pytest.fixture(scope="session")
def mixed() -> Architecture:
    """All kinds of nodes: parallel branches, a projection, a block without channel mixer, three norms."""
    pair = Block((Op.of("depthwise_conv", kernel=3, dilation=1), attention(4, True)), MLP, split=0.5)
    bare = Block((Op.of("depthwise_conv", kernel=3, dilation=2),), None)
    narrow = Block((attention(2, True),), MLP, width=24)
    return Architecture(
        32,
        Op.of("conv", stride=2),
        (
            Stage(8, "batch", None, (conv(5), conv(5), bare)),
            Stage(16, "layer", Op.of("conv"), (pair, Block((attention(4, False),), MLP))),
            Stage(32, "rms", Op.of("overlap"), (narrow,)),
        ),
    )


@pytest.fixture(scope="session")
def backbone(mixed: Architecture) -> Backbone:
    return randomised(build(mixed, 10, 1))


def randomised(model: Backbone) -> Backbone:
    """In evaluation mode, with no parameter or statistic at its initial value."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.2)
    return model.eval()
