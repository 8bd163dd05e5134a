"""The norm of the gradient."""

from __future__ import annotations

from torch import Tensor, nn

from nas.predictors.proxies.base import register_proxy
from nas.predictors.proxies.gradients import loss_gradients


@register_proxy(
    "grad_norm",
    cite="Abdelfattah et al. 2021, arXiv:2101.08134, section 3; official foresight/pruners/measures/grad_norm.py",
    needs=("images", "labels"),
)
def grad_norm(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The sum over the weights of the Euclidean norm of each one's gradient, of the mean cross-entropy of the batch.

    The paper speaks of the norm of all gradients put together; the official code adds the norms of the layers, as here.
    """
    return sum(float(gradient.norm()) for _, gradient in loss_gradients(network, images, labels))
