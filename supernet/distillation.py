"""What a network learns from the predictions of another one: mean distances over a batch, of logits to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHAS = (-1.0, 1.0)
CLIP = 5.0
"""The bound of the importance weights (official loss_ops.py, `iw_clip`)."""


def soft(logits: Tensor, teacher: Tensor) -> Tensor:
    """The cross-entropy of the logits (B, K) with the teacher's probabilities (B, K), a scalar in nats."""
    return F.cross_entropy(logits, teacher)


def alpha(logits: Tensor, teacher: Tensor) -> Tensor:
    """The larger, image by image, of two clipped alpha divergences of student q from teacher p.

    D_a(p, q) = sum_k q_k ((p_k / q_k)^a - 1) / (a (a - 1)), with a = 1 the Kullback-Leibler divergence of q from p. a = 1
    grows where the student misses what the teacher sees, a = -1 where it is sure of what the teacher is not. The weights
    (p / q)^a are held below CLIP, in the value and in the gradient -1/a E_q[(p / q)^a grad log q] (Wang et al. 2021,
    arXiv:2102.07954, equations 5 to 8).
    """
    log_q = logits.log_softmax(1)
    with torch.no_grad():
        log_p = teacher.clamp_min(1e-8).log()
        weights = [(a * (log_p - log_q)).exp().clamp_max(CLIP) for a in ALPHAS]
        values = torch.stack([_value(a, w, log_q) for a, w in zip(ALPHAS, weights, strict=True)])
        pulls = torch.stack([-w * log_q.exp() / a for a, w in zip(ALPHAS, weights, strict=True)])
        larger = values.argmax(0)
        pull = pulls[larger, torch.arange(len(logits), device=logits.device)]
        value = values.amax(0).mean()
    surrogate = (pull * log_q).sum(1).mean()  # its gradient is the divergence's, its value is not
    return surrogate + (value - surrogate).detach()


def _value(a: float, weight: Tensor, log_q: Tensor) -> Tensor:
    """The divergence of each image, from its clipped weights (p / q)^a."""
    if a == 1.0:
        return (log_q.exp() * weight * weight.log()).sum(1)
    return (log_q.exp() * (weight - 1.0)).sum(1) / (a * (a - 1.0))


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"soft": soft, "alpha": alpha}
