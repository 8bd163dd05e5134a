"""Several networks in one forward-backward: each sees its own part of the batch."""

from __future__ import annotations

from nas.supernet.strategies.base import Draw, Lesson, StepPlan, register


@register(
    "split_batch",
    cite="Liao et al. 2021, ViT-ResNAS, arXiv:2109.00642, section 3.3 (multi-architectural sampling)",
    splits=True,
)
def split_batch(draw: Draw) -> StepPlan:
    """`networks` random networks on `networks` equal parts of the batch, at the price of one network on the whole batch.

    The official code masks the channels of one forward pass of the largest network, which costs the largest's time for every
    network; views of the store compute each network as small as it is.
    """
    rng, parts = draw.rng("split"), draw.networks
    return StepPlan(
        tuple(
            Lesson(architecture=draw.space.sample(rng), rows=(part / parts, (part + 1) / parts), weight=1.0 / parts)
            for part in range(parts)
        )
    )
