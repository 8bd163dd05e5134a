"""Evaluating candidates with a trained supernet: extract, calibrate, score on validation images, cheap scores first."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from nas.predictors.cost import Cost, node_cost
from nas.search.cheap_scores import LOSS, MEASURED, proxy_of
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import nodes
from nas.search_spaces.space import SearchSpace
from nas.supernet.adaptation import Adaptation, adapt, mix
from nas.supernet.calibration import Score, calibrate, score
from nas.supernet.data import DataSplits, ImageSet
from nas.supernet.supernet import Supernet


class SupernetEvaluator:
    """Architecture JSON -> `accuracy` and `loss` on the validation split with inherited weights, `params` and `macs`.

    With `screen`, so many of the images are looked at first. Screened by `loss` or `accuracy`, they are scored: `screening` is
    minus their loss, or their accuracy, and the others are scored only where that reaches the bar which the search hands over.
    Screened by a proxy, `screening` is its value for the network with inherited weights on these images, `screening_seconds`
    what it took, and nothing is scored below the bar: then there is no accuracy. `fidelity` is the share of the images that was
    scored, `images` their number.

    With `adaptation`, the copy is trained for its steps before all images are scored (`adapted` tells how many,
    `adapting_seconds` what they took). Cheap scores come before that and are of another kind: what they turn down has no
    accuracy, and `screening_images` counts the images that they took beside `images`.

    Pickles as weights and data, so that it travels once to each worker; the supernet is rebuilt there. `threads` is part of
    the answer (sums are rounded in another order), so it goes along. Raises UnknownNameError for an unknown `screen_by`.
    """

    def __init__(
        self,
        supernet: Supernet,
        data: DataSplits,
        threads: int,
        screen: int | None = None,
        screen_by: str = LOSS,
        adaptation: Adaptation | None = None,
    ) -> None:
        self.supernet, self.data, self.threads, self.screen = supernet, data, threads, screen
        self.screen_by, self.proxy = screen_by, proxy_of(screen_by)
        self.adaptation = adaptation or Adaptation()

    def __call__(self, architecture_json: str, bar: float | None = None) -> Mapping[str, float]:
        """Accuracy as a fraction, loss in nats; without a `bar` all images are scored."""
        architecture = Architecture.from_json(architecture_json)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            found = self._evaluated(self.supernet.extract(architecture).eval(), architecture.resolution, bar)
        finally:
            torch.set_num_threads(before)
        outputs = self.supernet.num_classes, self.supernet.in_channels
        return {**found, **sizes(architecture, *outputs)}

    def _evaluated(self, network: Backbone, side: int, bar: float | None) -> dict[str, float]:
        told = self._guessed(network, side)
        if told and bar is not None and not told["screening"] >= bar:
            return {**told, "fidelity": 0.0, "images": 0.0}
        told |= self._adapted(network, side)
        calibrate(network, self.data, side)
        return {**told, **self._scored(network, side, bar)}

    def _guessed(self, network: Backbone, side: int) -> dict[str, float]:
        """The cheap score that is taken by itself and what it took: a proxy, or what few images tell before an adaptation."""
        if self.screen is None or not (self.proxy or self.adaptation.steps):
            return {}
        few, began = self._few(), time.perf_counter()
        if self.proxy is None:
            calibrate(network, self.data, side)
            value = MEASURED[self.screen_by](score(network, self.data, few, side))
            return {"screening": value, "screening_images": float(len(few))}
        value = self.proxy.score(network, self.data.prepare(few.images, side), few.labels)
        return {"screening": value, "screening_seconds": time.perf_counter() - began}

    def _few(self) -> ImageSet:
        """The images that cheap scores look at; all where there are no more."""
        images = self.data.validation
        return images.take(_spread(len(images), min(self.screen or 0, len(images))))

    def _adapted(self, network: Backbone, side: int) -> dict[str, float]:
        """Train the network where that is asked for; the steps and their seconds."""
        if not self.adaptation.steps:
            return {}
        began = time.perf_counter()
        mix(network, self.data, self.adaptation)
        adapt(network, self.data, self.adaptation, side)
        return {"adapted": float(self.adaptation.steps), "adapting_seconds": time.perf_counter() - began}

    def _scored(self, network: Backbone, side: int, bar: float | None) -> dict[str, float]:
        images = self.data.validation
        if self.screen is None or self.proxy is not None or self.adaptation.steps or self.screen >= len(images):
            found = score(network, self.data, images, side)
            return {"accuracy": found.accuracy, "loss": found.loss, "fidelity": 1.0, "images": float(len(images))}
        few, rest = _parted(images, self.screen)
        cheap = score(network, self.data, few, side)
        told = {"accuracy": cheap.accuracy, "loss": cheap.loss, "screening": MEASURED[self.screen_by](cheap)}
        if bar is not None and not told["screening"] >= bar:  # nor is a loss that is no number worth more images
            return {**told, "fidelity": len(few) / len(images), "images": float(len(few))}
        found = _together((cheap, few), (score(network, self.data, rest, side), rest))
        told |= {"accuracy": found.accuracy, "loss": found.loss}
        return {**told, "fidelity": 1.0, "images": float(len(images))}

    def __getstate__(self) -> dict[str, Any]:
        net = self.supernet
        return {
            "space": net.space.to_mapping(),
            "outputs": (net.num_classes, net.in_channels),
            "unshared": str(net.sharing),
            "weights": {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()},
            "data": self.data,
            "threads": self.threads,
            "screen": self.screen,
            "screen_by": self.screen_by,
            "adaptation": self.adaptation,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        space = SearchSpace.from_mapping(state["space"])
        self.supernet = Supernet(space, *state["outputs"], unshared=state["unshared"])
        self.supernet.load_state_dict(state["weights"])
        self.data, self.threads, self.screen = state["data"], state["threads"], state["screen"]
        self.screen_by, self.proxy = state["screen_by"], proxy_of(state["screen_by"])
        self.adaptation = state["adaptation"]


def _spread(total: int, count: int) -> torch.Tensor:
    """`count` numbers below `total` at equal steps: sources list images class by class."""
    return torch.linspace(0, total - 1, count).round().long()


def _parted(images: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """So many images at equal steps through the split, and the others."""
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[_spread(len(images), count)] = True
    return images.take(chosen.nonzero()[:, 0]), images.take((~chosen).nonzero()[:, 0])


def _together(*parts: tuple[Score, ImageSet]) -> Score:
    """The score of some disjoint parts; the accuracy is that of scoring them in one go, to the last bit."""
    count = sum(len(images) for _, images in parts)
    right = sum(round(found.accuracy * len(images)) for found, images in parts)
    return Score(right / count, sum(found.loss * len(images) for found, images in parts) / count)


def sizes(architecture: Architecture, num_classes: int, in_channels: int) -> dict[str, float]:
    """`params` and `macs` of an architecture, summed over its nodes; a node seen before costs nothing."""
    found = Cost.total(node_cost(node) for node in nodes(architecture, None, in_channels, num_classes))
    return {"params": float(found.params), "macs": float(found.macs)}
