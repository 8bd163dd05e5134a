"""A few steps of training of an extracted copy before it is scored: its own weights, instead of a compromise of all networks.

Weights that fit many networks at once rank them by how well the compromise happens to suit each; after some steps alone on the
same images the order is nearer to that after training alone (few-shot NAS, Zhao et al. 2020, arXiv:2006.06863, section 2, goes
the same way by splitting the supernet). All candidates see the same batches with the same augmentation in the same order
(common random numbers): what differs between two scores is not the luck of the draw.

Weights may be shrunk and mixed with fresh ones first (Ash and Adams 2020, On warm-starting neural network training,
arXiv:1910.08475): what is left of the compromise then sways the order less, and the network still begins ahead of a fresh one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from nas.errors import DivergedError, UsageError
from nas.search_spaces.backbone import Backbone, build
from nas.supernet.augmentation import Augmentation
from nas.supernet.calibration import device_of
from nas.supernet.data import DataSplits
from nas.supernet.learning import take_step
from nas.supernet.recipe import TrainingRecipe, require_rates
from nas.supernet.schedule import adamw, drawing_seed

RATE = 2e-3
"""The peak learning rate unless another is given."""


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """How a copy is trained before it is scored: `steps` of AdamW, linear warm-up, cosine decay to zero. None with 0 steps.

    It begins with the share `keep` of its inherited weights, filled up with fresh ones that `seed` draws (`mix`).
    """

    steps: int = 0
    learning_rate: float = RATE
    batch: int = 64
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    gradient_clip: float = 5.0
    augment: str = "move"
    seed: int = 0
    keep: float = 1.0

    def __post_init__(self) -> None:
        """Raises UsageError for a number outside its range."""
        if self.steps < 0:
            raise UsageError(f"a copy is adapted for 0 steps or more, got {self.steps}")
        if not 0 <= self.keep <= 1:
            raise UsageError(f"the share of the inherited weights that an adaptation keeps is from 0 to 1, got {self.keep}")
        require_rates(self.learning_rate, self.weight_decay, self.gradient_clip, "adaptation")

    @classmethod
    def of(cls, recipe: TrainingRecipe, steps: int, learning_rate: float = RATE, keep: float = 1.0) -> Self:
        """`steps` on the batches that a supernet's recipe names, its augmentation, smoothing, warm-up, decay and seed."""
        names = ("batch", "weight_decay", "warmup", "label_smoothing", "augment", "seed")
        return cls(steps=steps, learning_rate=learning_rate, keep=keep, **{name: getattr(recipe, name) for name in names})

    def identity(self) -> dict[str, Any]:
        """What scores depend on: all fields, but `keep` where all is kept; nothing without steps."""
        told = asdict(self) if self.steps else {}
        if self.keep == 1:
            told.pop("keep", None)
        return told


def mix(network: Backbone, data: DataSplits, adaptation: Adaptation) -> None:
    """Shrink the weights of a network to the share that the adaptation keeps, and fill them up with fresh ones, in place.

    With the share a, matrices and filters become a w + sqrt(1 - a^2) f, whose variance is that of fresh weights f where w has
    it; vectors (biases, factors of norms), whose fresh values are no noise, a w + (1 - a) f. Nothing changes without steps.
    """
    keep = adaptation.keep
    if keep == 1 or not adaptation.steps:
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(adaptation.seed)
        fresh = dict(build(network.architecture, len(data.classes), data.in_channels).named_parameters())
        for name, weight in network.named_parameters():
            share = (1 - keep**2) ** 0.5 if weight.dim() > 1 else 1 - keep
            weight.mul_(keep).add_(fresh[name].to(weight), alpha=share)


def adapt(network: nn.Module, data: DataSplits, adaptation: Adaptation, resolution: int) -> None:
    """Train a network in place on training images; it is left in evaluation mode, with running statistics of no meaning.

    The same call gives the same weights bit for bit on a CPU, and leaves the random state as it was. Raises DivergedError where
    the loss is not finite.
    """
    if not adaptation.steps:
        return
    optimizer = adamw(network, adaptation.learning_rate, adaptation.weight_decay, (0.9, 0.999))
    augment, device = Augmentation(adaptation.augment, data), device_of(network)
    network.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(adaptation.seed)
        for step, index in enumerate(_batches(len(data.train), adaptation)):
            batch = data.train.take(index).to(device)
            images, labels = augment(batch.images, batch.labels, drawing_seed(adaptation.seed, step))
            logits = network(data.prepare(images, resolution))
            try:
                take_step(network, logits, labels, optimizer, adaptation, step, adaptation.steps)
            except DivergedError as error:
                raise DivergedError(f"adaptation before scoring (--adapt-rate): {error}") from error
    network.eval()


def _batches(images: int, adaptation: Adaptation) -> Iterator[Tensor]:
    """The training images of each step: pass after pass, each in an order of its own, whole batches alone."""
    whole = max(1, images // adaptation.batch)
    for step in range(adaptation.steps):
        turn, place = divmod(step, whole)
        if place == 0:
            order = torch.randperm(images, generator=torch.Generator().manual_seed(drawing_seed(adaptation.seed, turn)))
        yield order[place * adaptation.batch : (place + 1) * adaptation.batch]
