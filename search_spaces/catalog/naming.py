"""Rules for checkpoints whose blocks are ours one by one, but under other numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from nas.search_spaces.catalog.weights import Rules, rename


def modules(theirs: str, ours: str, names: Mapping[str, str]) -> Rules:
    """Renames all tensors of modules: those of `theirs` + key become those of `nodes.` + `ours` + value.

    The four are plain names, not patterns: `modules("stages.1.blocks.0.", "s1b0_", {"norm1": "mixer.norm"})`.
    """
    return tuple(
        rename(re.escape(theirs + key) + r"\.(\w+)", f"nodes.{ours}{value}" + r".\1") for key, value in names.items()
    )
