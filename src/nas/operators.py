"""The registered operators by name: `nas.operators.names()`, `nas.operators.get("window_attention")`."""

from __future__ import annotations

from nas.search_spaces.registry import Kind, Operator, operator
from nas.search_spaces.registry import names as registered


def names(kind: str = Kind.TOKEN_MIXER) -> list[str]:
    """The operators of a kind (token_mixer, channel_mixer, stem, downsample, norm), sorted."""
    return registered(Kind(kind))


def get(name: str, kind: str = Kind.TOKEN_MIXER) -> Operator:
    """What is registered under a name: module class, settings with their rules, citation. Raises UnknownNameError."""
    return operator(Kind(kind), name)
