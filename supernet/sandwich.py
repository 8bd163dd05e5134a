"""The sandwich rule: each step trains the largest, the smallest and some random architectures on one batch."""

from __future__ import annotations

import random

from torch import Tensor
from torch.nn import functional as F

from nas.search_spaces.architecture import Architecture
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet

LABEL_SMOOTHING = 0.1


def step_architectures(supernet: Supernet, seed: int, step: int, random_ones: int) -> list[Architecture]:
    """The architectures of a step, the largest first; a function of seed and step number alone.

    In the largest and the smallest the kinds of operators are drawn anew each time, so that every operator is trained at
    both ends of every size.
    """
    rng = random.Random(f"sandwich:{seed}:{step}")
    space = supernet.space
    drawn = [space.largest(rng), space.smallest(rng)]
    return drawn + [space.sample(rng) for _ in range(random_ones)]


def sandwich_backward(
    supernet: Supernet, architectures: list[Architecture], data: DataSplits, images: Tensor, labels: Tensor
) -> float:
    """Accumulate the gradients of a step and return the largest network's loss.

    The first architecture learns from the labels; the others from its predictions (in-place distillation: Yu et al. 2020,
    BigNAS, arXiv:2003.11142, section 3.1) and, in equal parts, from the labels, without which the first epochs would only
    copy an untrained teacher.
    """
    largest, *others = architectures
    logits = supernet(data.prepare(images, largest.resolution), largest)
    loss = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    loss.backward()
    teacher = logits.detach().softmax(1)
    for architecture in others:
        logits = supernet(data.prepare(images, architecture.resolution), architecture)
        hard = F.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
        (0.5 * hard + 0.5 * F.cross_entropy(logits, teacher)).backward()
    return float(loss.detach())
