"""NASWOT: how many linear regions a batch falls into."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.interception import RECTIFIERS, SATURATING, Intercept


@register_proxy(
    "naswot",
    cite="Mellor et al. 2021, arXiv:2006.04647v3, section 3 (eq. 1 and 2); official score_networks.py and scores.py hook_logdet",
    needs=("images",),
)
def naswot(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """log det K, K_ij the number of activations that images i and j switch alike: N - Hamming distance of their codes.

    The paper's codes are the signs of the inputs of a network's ReLUs. Here they are those of all element-wise activations
    (`RECTIFIERS` and `SATURATING`: GELU, SiLU, hard-swish, sigmoid gates and so on), as modules or as calls of functions:
    where the input is positive a rectifier passes it on, and a gate is more open than closed. Softmax is not element-wise
    and has no code. Activations that do not depend on the images, as in position biases, are left out.

    K holds integers, so that its determinant is an integer too: a regular K has at least log 1 = 0. A singular one, for a
    network without activations or an image that comes twice, counts as 0.
    """
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def coded(call: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if x.requires_grad:
            on = (x.detach().reshape(len(images), -1) > 0).float()
            kernel.add_(on @ on.T).add_((1 - on) @ (1 - on).T)
        return call()

    # The parameters are constants here, so that what asks for gradients depends on the images.
    network.requires_grad_(False)
    with Intercept(dict.fromkeys((*RECTIFIERS, *SATURATING), coded)):
        network(images.clone().requires_grad_(True))
    sign, value = torch.linalg.slogdet(kernel)
    return max(0.0, float(value)) if sign > 0 else 0.0
