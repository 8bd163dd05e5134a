"""The multiply-adds of one image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.predictors.cost import module_cost
from nas.predictors.proxies.base import register_proxy


@register_proxy("macs", cite="a baseline in White et al. 2022 (A Deeper Look at Zero-Cost Proxies), ICLR blog track")
def macs(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The multiply-adds of one image of the batch's shape, as `nas.predictors.cost` counts them."""
    return float(module_cost(network, (torch.zeros_like(images[:1]),)).macs)
