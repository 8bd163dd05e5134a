"""Catalogue backbones with the weights of timm checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nas.errors import FileError, UsageError
from nas.search_spaces.catalog.entry import Entry, entries, entry
from nas.search_spaces.catalog.weights import fill, translate

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.search_spaces.backbone import Backbone

STEM, HEAD = "stem", "head"


def load_timm(name: str, model: nn.Module | Mapping[str, Tensor]) -> Backbone:
    """The catalogue backbone `name` with the weights of a timm model, or of its state dict; in evaluation mode.

    The logits are timm's to 1e-4 in float32. Classes and image channels are the checkpoint's. Raises UsageError for a backbone
    that timm does not have, FileError for the state of another model.
    """
    from nas.search_spaces.backbone import build

    found = entry(name)
    if found.rules is None:
        raise UsageError(f"timm has no {name!r}; load_timm knows {', '.join(e.name for e in entries() if e.rules)}")
    state = model if isinstance(model, Mapping) else model.state_dict()
    ours = translate({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, found.rules())
    network = build(found.architecture, num_classes(found, ours), in_channels(ours)).eval()
    fill(network, ours)
    return network


def num_classes(found: Entry, ours: Mapping[str, Tensor]) -> int:
    """The outputs of the last layer of the head."""
    rows = [tensor.shape[0] for key, tensor in ours.items() if key.startswith("nodes.head.linear") and tensor.ndim == 2]
    if not rows:
        raise FileError(f"the checkpoint has no classifier that becomes the head of {found.name!r}: load a model with classes")
    return int(rows[-1])


def in_channels(ours: Mapping[str, Tensor]) -> int:
    """The image channels that the first convolution reads."""
    first = next(tensor for key, tensor in ours.items() if key.startswith("nodes.stem.op.") and tensor.ndim == 4)
    return int(first.shape[1])
