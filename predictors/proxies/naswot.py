"""NASWOT: how many linear regions a batch falls into."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.interception import RECTIFIERS, SATURATING, Intercept


@register_proxy(
    "naswot",
    cite="Mellor et al. 2021, arXiv:2006.04647v3, section 3; official score_networks.py and scores.py hook_logdet",
    needs=("images",),
)
def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """log det K, K_ij the number of activations that images i and j switch alike: all less the Hamming distance of the codes.

    The paper's codes are the signs of the inputs of a network's ReLUs. Here they are those of all element-wise activations
    (`RECTIFIERS` and `SATURATING`: GELU, SiLU, hard-swish, sigmoid gates and so on), as modules or as calls of functions:
    where the input is positive a rectifier passes it on, and a gate is more open than closed. Softmax is not element-wise
    and has no code. Activations that do not depend on the images, as in position biases, are left out. Batch norm uses the
    batch's statistics, as in the official code. An axis that holds the images is taken to run through them slowest; an
    operator that folds something else before them (scattering) gets the bits of some of its activations swapped.

    K holds integers, so that its determinant is an integer too: a regular K has at least log 1 = 0. A singular one, for a
    network without activations or an image that comes twice, counts as 0.
    """
    count = len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64, device=images.device)
    other = images[torch.arange(2 if count > 2 else 3) % count]
    shapes: list[torch.Size] = []
    _each_activation(network, other, lambda x: shapes.append(x.shape))
    remaining = iter(shapes)

    def add(x: Tensor) -> None:
        # The axis that holds the images, alone or in front of windows and positions, is the one that grows with the batch.
        axis = next((i for i, sizes in enumerate(zip(x.shape, next(remaining), strict=True)) if sizes[0] != sizes[1]), None)
        if axis is not None:
            on = (x.movedim(axis, 0).reshape(count, -1) > 0).float()
            kernel.add_(on @ on.T).add_((1 - on) @ (1 - on).T)

    _each_activation(network, images, add)
    sign, value = torch.linalg.slogdet(kernel)
    return max(0.0, float(value)) if sign > 0 else 0.0


@torch.no_grad()
def _each_activation(network: nn.Module, images: Tensor, look: Callable[[Tensor], None]) -> None:
    """Show the input of each element-wise activation, in the order of execution."""

    def shown(call: Callable[[], Any], x: Tensor, *args: Any, **kwargs: Any) -> Any:
        look(x)
        return call()

    with Intercept(dict.fromkeys((*RECTIFIERS, *SATURATING), shown)):
        network(images)
