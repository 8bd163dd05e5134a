"""What of the weights choices have to themselves: by default they share all that fits together.

Sharing more trains each weight more often; sharing less lets choices differ that do not agree, as they do when each network is
trained alone. Splitting a supernet where it disagrees most is few-shot NAS (Zhao et al. 2020, arXiv:2006.06863); norms of each
choice's own are those of slimmable networks (Yu et al. 2018, arXiv:1812.08928, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from nas.errors import UnknownNameError
from nas.search_spaces.graph import Node

NORM, OPERATOR, BRACKET = "norm", "op", "("
"""The parts of a node that hold its norm and its operator, and what follows the name of a norm that has settings."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What is not shared: at each slot, each of these has weights of its own.

    `norms`: each kind of norm for each operator that it stands beside, be they of one family or not. `operators`: each
    operator, also within a family. `widths`: each pair of widths that a node reads and gives.
    """

    norms: bool = False
    operators: bool = False
    widths: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """The sharing that `norms,operators` says, "" being the usual one. Raises UnknownNameError."""
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        known = [field.name for field in fields(cls)]
        for name in wanted:
            if name not in known:
                raise UnknownNameError("kind of weights to keep apart", name, known)
        return cls(**dict.fromkeys(wanted, True))

    def __str__(self) -> str:
        return ",".join(field.name for field in fields(self) if getattr(self, field.name))

    def owners(self, node: Node, part: str) -> tuple[str, ...]:
        """Whom the parameters of a part of a node belong to, beside the slot and the family; nobody where all share them.

        What belongs to a residual is each operator's own in any case. `@` keeps these names apart from those of families.
        """
        found = []
        if part == NORM and self.norms:
            found += [f"@{node.norm.partition(BRACKET)[0]}", f"@{node.operator}"]
        if part != NORM and self.operators and not (node.residual and part != OPERATOR):
            found.append(f"@{node.operator}")
        if self.widths:
            found.append(f"@{node.in_shape[2]}-{node.out_shape[2]}")
        return tuple(found)


EVERYTHING = Sharing()
"""The usual sharing."""
