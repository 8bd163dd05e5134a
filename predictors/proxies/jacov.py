"""Jacobian covariance: whether a network's slopes at different images differ."""

from __future__ import annotations

import torch
from torch import Tensor, autograd, nn

from nas.predictors.proxies.base import register_proxy

EPS = 1e-5


@register_proxy(
    "jacov",
    cite="Mellor et al. 2020 (first version of Neural Architecture Search without Training), arXiv:2006.04647v1, section 3; "
    "Abdelfattah et al. 2021, arXiv:2101.08134, official foresight/pruners/measures/jacob_cov.py",
    needs=("images",),
)
def jacov(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """-sum_i (log(v_i + EPS) + 1 / (v_i + EPS)), v the eigenvalues of the images' correlations.

    Rows of the correlation are the derivatives of the sum of all logits by the pixels of one image. With B images the score
    is highest, about -B, where no two of them correlate, and about -1e5 for each that another can replace. Images are
    pushed through as one batch in training mode, as in the official code. An image without slope anywhere has no
    correlation, which makes the score undefined.
    """
    images = images.clone().requires_grad_(True)
    (slopes,) = autograd.grad(network(images).sum(), images)
    correlations = torch.corrcoef(slopes.flatten(1).double())
    if not correlations.isfinite().all():
        return float("nan")
    values = torch.linalg.eigvalsh(correlations).clamp_min(0.0) + EPS
    return -float((values.log() + 1 / values).sum())
