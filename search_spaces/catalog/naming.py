"""Rules for checkpoints whose blocks are ours one by one, but under other numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.search_spaces.catalog.weights import Parts, Rule, Rules, rename

if TYPE_CHECKING:
    from torch import Tensor


def modules(theirs: str, ours: str, names: Mapping[str, str]) -> Rules:
    """Renames all tensors of modules: those of `theirs` + key become those of `nodes.` + `ours` + value.

    The four are plain names, not patterns: `modules("stages.1.blocks.0.", "s1b0_", {"norm1": "mixer.norm"})`.
    """
    return tuple(rename(re.escape(theirs + key) + r"\.(\w+)", f"nodes.{ours}{value}" + r".\1") for key, value in names.items())


def split_by_head(pattern: str, names: tuple[str, ...], widths: tuple[int, ...]) -> Rule:
    """A fused projection that holds, head after head, so many rows (`widths`) for each of the templates `names`."""

    def split(match: re.Match[str], tensor: Tensor) -> Parts:
        parts = tensor.unflatten(0, (-1, sum(widths))).split(widths, dim=1)
        return {match.expand(name): part.flatten(0, 1) for name, part in zip(names, parts, strict=True)}

    return Rule(pattern, split=split)


def distances(biases: Tensor) -> Tensor:
    """The biases (heads, side^2) of LeViT, TinyViT and EfficientFormer as a table (side, side, heads)."""
    side = round(biases.shape[1] ** 0.5)
    return biases.t().unflatten(0, (side, side))
