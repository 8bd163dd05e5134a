"""The weights of a network and the gradients of its loss, which several proxies are made of."""

from __future__ import annotations

from torch import Tensor, autograd, nn
from torch.nn import functional as F

from nas.errors import UsageError


def weights(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of two dimensions or more: kernels, matrices, tables.

    The papers count the weights of convolutions and linear layers; operators that keep theirs in parameters of their own
    are counted alike. Biases, scales and the parameters of norms have one dimension and count nowhere.
    """
    return [parameter for parameter in network.parameters() if parameter.dim() >= 2]


def loss_gradients(network: nn.Module, images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each weight with the gradient of the mean cross-entropy of the batch; zeros where the loss does not depend on it.

    Raises UsageError for a label that the network has no class for.
    """
    logits = network(images)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise UsageError(f"labels go from {low} to {high}, but the network has the classes 0 to {logits.shape[1] - 1}")
    found = weights(network)
    gradients = autograd.grad(F.cross_entropy(logits, labels), found, allow_unused=True, materialize_grads=True)
    return [(weight.detach(), gradient) for weight, gradient in zip(found, gradients, strict=True)]
