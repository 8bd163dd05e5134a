"""Rules of placement: which mixer may follow which. Each rule is a small automaton over the blocks of a network.

A rule constrains the same genes as every other; it does not make another space. `free` allows anything, `per_stage` one
mixer a stage, `conv_then_attention` no other mixer after the first attention, `alternate` attention and other mixers in turn
inside a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas.search_spaces.registry import Group, Operator

State = str


@dataclass(frozen=True, slots=True)
class Placement:
    """`step(state, mixer)` gives the next state, or None where the mixer may not stand there; "" is the state at the start.

    `keeps` tells whether the state survives the end of a stage.
    """

    name: str
    summary: str
    step: Callable[[State, Operator], State | None]
    keeps: bool = False

    def enter_stage(self, state: State) -> State:
        """The state with which the next stage begins."""
        return state if self.keeps else ""


def _free(state: State, mixer: Operator) -> State | None:
    return ""


def _per_stage(state: State, mixer: Operator) -> State | None:
    return mixer.name if state in ("", mixer.name) else None


def _conv_then_attention(state: State, mixer: Operator) -> State | None:
    if mixer.group is Group.ATTENTION:
        return "attention"
    return None if state == "attention" else ""


def _alternate(state: State, mixer: Operator) -> State | None:
    side = "attention" if mixer.group is Group.ATTENTION else "other"
    return None if state == side else side


PLACEMENTS = {
    rule.name: rule
    for rule in (
        Placement("free", "any mixer in any block", _free),
        Placement("per_stage", "one mixer in all blocks of a stage", _per_stage),
        Placement("conv_then_attention", "no other mixer after the first attention", _conv_then_attention, keeps=True),
        Placement("alternate", "attention and other mixers in turn inside a stage", _alternate),
    )
}
