"""What a network learns from the predictions of another one: mean distances over a batch, of logits to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP = 5.0
"""The bound of the importance weights of alpha = -1 (official loss_ops.py, `iw_clip`)."""


def soft(logits: Tensor, teacher: Tensor) -> Tensor:
    """The cross-entropy of the logits (B, K) with the teacher's probabilities (B, K), a scalar in nats."""
    return F.cross_entropy(logits, teacher)


def alpha(logits: Tensor, teacher: Tensor) -> Tensor:
    """The larger, image by image, of two clipped alpha divergences of student q from teacher p.

    D_a(p, q) = sum_k q_k ((p_k / q_k)^a - 1) / (a (a - 1)); a = 1, the Kullback-Leibler divergence, grows where the student
    misses what the teacher sees, a = -1 where it is sure of what the teacher is not. The gradient is
    -1/a E_q[(p / q)^a grad log q] (Wang et al. 2021, arXiv:2102.07954, equations 5 to 8). For a = -1 the weights (p / q)^a are
    held below CLIP, in the value and in the gradient; for a = 1 they are not (official loss_ops.py), as q p / q is at most 1.
    """
    log_q = logits.log_softmax(1)
    with torch.no_grad():
        log_p = teacher.clamp_min(1e-8).log()
        weight = (log_q - log_p).exp().clamp_max(CLIP)
        missed, sure = (teacher * (log_p - log_q)).sum(1), 0.5 * (log_q.exp() * (weight - 1.0)).sum(1)
        pull = torch.where((missed > sure)[:, None], -teacher, weight * log_q.exp())
        value = torch.maximum(missed, sure).mean()
    surrogate = (pull * log_q).sum(1).mean()  # its gradient is the divergence's, its value is not
    return surrogate + (value - surrogate).detach()


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"soft": soft, "alpha": alpha}
