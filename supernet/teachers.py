"""Teachers from outside: trained networks whose predictions a supernet learns from beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from nas.errors import FileError, UnknownNameError, UsageError
from nas.search_spaces.catalog.entry import entry
from nas.search_spaces.catalog.loading import load_timm
from nas.supernet.data import DataSplits
from nas.supernet.step import Teacher

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What the catalogue's weights expect of images, and timm's where they do not say otherwise."""
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Normalisation = (IMAGENET_MEAN, IMAGENET_STD)


def teacher(text: str, data: DataSplits) -> Teacher | None:
    """The teacher that `catalog:NAME=FILE`, `timm:NAME` or `timm:NAME=FILE` names; None for "".

    FILE is a safetensors state dict with timm's names; timm fetches its own pretrained weights without one. Raises
    UsageError or UnknownNameError for another text or other classes than the data's, FileError for an unreadable file.
    """
    if not text:
        return None
    kind, name, state = source(text, "teacher")
    model, resolution, normalisation = _KINDS[kind](name, state)
    model.eval().requires_grad_(False)
    found = _Teacher(model, resolution, normalisation, data.in_channels)
    outputs = found(data.train.images[:1]).shape[1]
    if outputs != len(data.classes):
        raise UsageError(
            f"teacher {text!r} has {outputs} classes, the data has {len(data.classes)}: fine-tune it on the data first and "
            "give its weights as FILE"
        )
    return found


def source(text: str, role: str) -> tuple[str, str, dict[str, Tensor] | None]:
    """What `catalog:NAME=FILE`, `timm:NAME` and `timm:NAME=FILE` name: the library, the model and its weights, if given.

    Raises UnknownNameError for another library, UsageError for a catalogue backbone without weights, FileError for an
    unreadable file; `role` is what the text is given for.
    """
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise UnknownNameError(role, kind, _KINDS)
    name, _, file = rest.partition("=")
    if kind == "catalog" and not file:
        raise UsageError(
            f"{role} 'catalog:{name}' needs weights: write catalog:{name}=FILE, a safetensors state dict of timm's"
        )
    return kind, name, _state(file, role) if file else None


class _Teacher:
    """Probabilities of a model for images from 0 to 255; grey images are shown to it as coloured ones."""

    def __init__(self, model: nn.Module, resolution: int, normalisation: Normalisation, in_channels: int) -> None:
        self.model, self.resolution, self.grey = model, resolution, in_channels == 1
        self.normalisation = normalisation

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        coloured = images.float().expand(-1, 3, -1, -1) if self.grey else images.float()
        mean, std = (torch.tensor(value, device=images.device)[:, None, None] for value in self.normalisation)
        side = (self.resolution, self.resolution)
        scaled = F.interpolate(coloured / 255.0, size=side, mode="bilinear", antialias=True)
        if next(self.model.parameters()).device != images.device:  # `to` writes to weights that other threads read
            self.model.to(images.device)
        logits: Tensor = self.model((scaled - mean) / std)
        return logits.softmax(1)


def _state(file: str, role: str) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise FileError(f"cannot read the {role}'s weights {file}: {error}; give a safetensors file") from error


def _catalog(name: str, state: dict[str, Tensor] | None) -> tuple[nn.Module, int, Normalisation]:
    assert state is not None, "`source` asks for weights"
    network = load_timm(name, state)
    return network, network.architecture.resolution, _expected(entry(name).timm)


def _expected(model: str | None) -> Normalisation:
    """The mean and deviation of images that a timm model's weights expect, where timm is there to ask."""
    try:
        import timm
    except ImportError:
        return IMAGENET
    about = None if model is None else timm.get_pretrained_cfg(model, allow_unregistered=True)
    return IMAGENET if about is None else (tuple(about.mean), tuple(about.std))


def _timm(name: str, state: dict[str, Tensor] | None) -> tuple[nn.Module, int, Normalisation]:
    model = timm_model(name, state, "teacher")
    if state is not None:
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            raise FileError(f"the teacher's weights are not those of timm's {name!r}: {why}") from error
    about: Any = model.pretrained_cfg
    normalisation = tuple(about.get("mean", IMAGENET_MEAN)), tuple(about.get("std", IMAGENET_STD))
    return model, int(about.get("input_size", (3, 224, 224))[-1]), normalisation


def timm_model(name: str, state: dict[str, Tensor] | None, role: str) -> Any:
    """A model of timm's with as many classes as the weights have, or with the weights that timm fetches.

    Raises UsageError without timm, and for a model that it does not give.
    """
    try:
        import timm
    except ImportError as error:
        raise UsageError(f"a {role} from timm needs timm: pip install -c constraints.txt 'hybrid-nas[timm]'") from error
    try:
        classifier = timm.get_pretrained_cfg_value(name, "classifier")
        classifier = classifier[0] if isinstance(classifier, (tuple, list)) else classifier  # distilled models have two
        classes = None if state is None else state.get(f"{classifier}.weight")
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes.shape[0]}
        return timm.create_model(name, pretrained=state is None, **options)
    except (RuntimeError, OSError) as error:
        raise UsageError(f"timm gives no {role} {name!r}: {' '.join(str(error).split())[:200]}") from error


_KINDS: dict[str, Callable[[str, dict[str, Tensor] | None], tuple[nn.Module, int, Normalisation]]] = {
    "catalog": _catalog,
    "timm": _timm,
}
