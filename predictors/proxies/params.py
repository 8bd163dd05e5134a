"""The number of parameters."""

from __future__ import annotations

from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy


@register_proxy("params", cite="a baseline in White et al. 2022 (A Deeper Look at Zero-Cost Proxies), ICLR blog track")
def params(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """All parameters, biases and norms included."""
    return float(sum(parameter.numel() for parameter in network.parameters()))
