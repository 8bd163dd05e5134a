"""SNIP: how much the loss depends on each connection."""

from __future__ import annotations

from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.gradients import loss_gradients


@register_proxy(
    "snip",
    cite="Lee et al. 2019, arXiv:1810.02340, algorithm 1; summed by Abdelfattah et al. 2021, arXiv:2101.08134, "
    "official foresight/pruners/measures/snip.py",
    needs=("images", "labels"),
)
def snip(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over the weights of |weight * gradient|, of the mean cross-entropy of the batch."""
    return sum(float((weight * gradient).abs().sum()) for weight, gradient in loss_gradients(network, images, labels))
