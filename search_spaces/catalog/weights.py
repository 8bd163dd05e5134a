"""Weights of published checkpoints under our names: each family states its rules, this file applies them without a gap."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas.errors import FileError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.search_spaces.backbone import Backbone

Parts = Mapping[str, "Tensor"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Names that match `pattern` whole become `to` (a template for `re.Match.expand`), or what `split` makes of the tensor.

    `split(match, tensor)` gives our names with their tensors; without it the tensor is only renamed. A rule with neither
    drops what it matches: buffers that are constants in ours.
    """

    pattern: str
    to: str | None = None
    split: Callable[[re.Match[str], Tensor], Parts] | None = None

    def apply(self, match: re.Match[str], tensor: Tensor) -> Parts:
        """Our names and tensors for one of theirs."""
        if self.split is not None:
            return self.split(match, tensor)
        return {} if self.to is None else {match.expand(self.to): tensor}


Rules = tuple[Rule, ...]


def drop(pattern: str) -> Rule:
    """Names that have no place in ours, because they are constants."""
    return Rule(pattern)


def rename(pattern: str, to: str, change: Callable[[Tensor], Tensor] | None = None) -> Rule:
    """Another name, and if need be another layout: `rename(r"head\\.(\\w+)", r"nodes.head.linear.\\1")`."""
    if change is None:
        return Rule(pattern, to)
    return Rule(pattern, split=lambda match, tensor: {match.expand(to): change(tensor)})


def split_qkv(pattern: str, to: str) -> Rule:
    """A fused projection whose rows are queries, keys, values in this order; `to` holds `{}` for the letter."""

    def split(match: re.Match[str], tensor: Tensor) -> Parts:
        return {match.expand(to.format(letter)): part for letter, part in zip("qkv", tensor.chunk(3), strict=True)}

    return Rule(pattern, split=split)


def split_rows(pattern: str, names: tuple[str, ...]) -> Rule:
    """A fused projection in equal parts along its rows, one for each of the templates `names`."""

    def split(match: re.Match[str], tensor: Tensor) -> Parts:
        return {match.expand(name): part for name, part in zip(names, tensor.chunk(len(names)), strict=True)}

    return Rule(pattern, split=split)


def translate(theirs: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Their state under our names. Raises FileError for a name that no rule knows, or that two of theirs become."""
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    found: dict[str, Tensor] = {}
    for name, tensor in theirs.items():
        parts = next((rule.apply(m, tensor) for pattern, rule in compiled if (m := pattern.fullmatch(name))), None)
        if parts is None:
            raise FileError(f"the checkpoint holds {name!r}, which this backbone has no place for: is it another model's?")
        for ours, part in parts.items():
            if ours in found:
                raise FileError(f"two tensors of the checkpoint become {ours!r}, the second is {name!r}")
            found[ours] = part.detach()
    return found


def fill(network: Backbone, ours: Mapping[str, Tensor]) -> None:
    """Put translated weights into a network. Raises FileError where one is missing, left over, or of another shape."""
    wanted = dict(_state(network))
    for name, tensor in wanted.items():
        if name not in ours:
            raise FileError(f"the checkpoint lacks what becomes {name!r} {tuple(tensor.shape)}: is it another model's?")
        if ours[name].numel() != tensor.numel() or ours[name].squeeze().shape != tensor.squeeze().shape:
            raise FileError(f"{name!r} has shape {tuple(tensor.shape)}, the checkpoint gives {tuple(ours[name].shape)}")
    extra = sorted(ours.keys() - wanted.keys())
    if extra:
        raise FileError(f"the checkpoint gives {extra[0]!r}, which the network does not have: is it another model's?")
    for name, tensor in wanted.items():
        tensor.data.copy_(ours[name].reshape(tensor.shape))


def _state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and running statistics; the counters of batches are of no use."""
    yield from ((name, tensor) for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked"))
