"""Small networks and batches for the tests of the zero-cost proxies, and the codes of NASWOT image by image."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

import nas
from nas.predictors.proxies.interception import RECTIFIERS, SATURATING, Intercept
from nas.search_spaces.architecture import Architecture, Block, Op, Stage
from nas.search_spaces.registry import Kind, operator


def batch(count: int = 4, side: int = 32, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, channels, side, side, generator=generator), torch.arange(count) % 10


def single(
    mixer: str = "depthwise_conv", channel_mixer: str = "mlp", *, norm: str = "layer", residual: str = "layer_scale"
) -> nn.Module:
    """A network of one stage on 8 x 8 maps: two blocks, so that the second may read what the first gives."""
    ops = [
        Op(name, operator(kind, name).legal_settings(16, 8)[0])
        for kind, name in ((Kind.TOKEN_MIXER, mixer), (Kind.CHANNEL_MIXER, channel_mixer))
    ]
    stage = Stage(16, norm, None, (Block((ops[0],), ops[1]),), Op(residual))
    torch.manual_seed(0)
    return nas.build(Architecture(16, Op.of("conv", stride=2), (stage,)), num_classes=10)


def convolutional() -> nn.Sequential:
    """A float64 network of 2 x 6 x 6 images with ReLU and batch norm, 3 classes."""
    torch.manual_seed(3)
    layers = [
        nn.Conv2d(2, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 3),
    ]
    return nn.Sequential(*layers).double()


def perceptron(*widths: int, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(4)
    layers: list[nn.Module] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out, bias), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def small_batch(count: int = 5) -> tuple[Tensor, Tensor]:
    images, labels = batch(count, 6, 2)
    return images.double(), labels % 3


def coded_one_by_one(network: nn.Module, images: Tensor) -> float:
    own, codes = copy.deepcopy(network).eval().requires_grad_(False), []
    for image in images:
        bits: list[Tensor] = []

        def note(call: Callable[[], Tensor], x: Tensor, *args: object, bits: list[Tensor] = bits, **kwargs: object) -> Tensor:
            if x.requires_grad:
                bits.append(x.detach().flatten() > 0)
            return call()

        with Intercept(dict.fromkeys((*RECTIFIERS, *SATURATING), note)):
            own(image[None].clone().requires_grad_(True))
        codes.append(torch.cat(bits))
    return logdet([[int((one == other).sum()) for other in codes] for one in codes])


def logdet(kernel: list[list[int]]) -> float:
    return float(np.linalg.slogdet(np.array(kernel, dtype=np.float64))[1])
