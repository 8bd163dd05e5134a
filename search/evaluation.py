"""Evaluating candidates with a trained supernet: extract, calibrate, score on validation images, few of them first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nas.predictors.cost import Cost, node_cost
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone
from nas.search_spaces.graph import nodes
from nas.search_spaces.space import SearchSpace
from nas.supernet.calibration import Score, calibrate, score
from nas.supernet.data import DataSplits, ImageSet
from nas.supernet.supernet import Supernet


class SupernetEvaluator:
    """Architecture JSON -> `accuracy` and `loss` on the validation split with inherited weights, `params` and `macs`.

    With `screen`, so many of the images are scored first (`screening`, an accuracy), and the others only where that reaches
    the bar which the search hands over; `fidelity` is the share of the images that was scored, `images` their number.

    Pickles as weights and data, so that it travels once to each worker; the supernet is rebuilt there. `threads` is part of
    the answer (sums are rounded in another order), so it goes along.
    """

    def __init__(self, supernet: Supernet, data: DataSplits, threads: int, screen: int | None = None) -> None:
        self.supernet, self.data, self.threads, self.screen = supernet, data, threads, screen

    def __call__(self, architecture_json: str, bar: float | None = None) -> Mapping[str, float]:
        """Accuracy as a fraction, loss in nats; without a `bar` all images are scored."""
        architecture = Architecture.from_json(architecture_json)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            network = self.supernet.extract(architecture).eval()
            calibrate(network, self.data, architecture.resolution)
            found = self._scored(network, architecture.resolution, bar)
        finally:
            torch.set_num_threads(before)
        outputs = self.supernet.num_classes, self.supernet.in_channels
        return {**found, **sizes(architecture, *outputs)}

    def _scored(self, network: Backbone, side: int, bar: float | None) -> dict[str, float]:
        images = self.data.validation
        if self.screen is None or self.screen >= len(images):
            found = score(network, self.data, images, side)
            return {"accuracy": found.accuracy, "loss": found.loss, "fidelity": 1.0, "images": float(len(images))}
        few, rest = _parted(images, self.screen)
        cheap = score(network, self.data, few, side)
        told = {"accuracy": cheap.accuracy, "loss": cheap.loss, "screening": cheap.accuracy}
        if bar is not None and cheap.accuracy < bar:
            return {**told, "fidelity": len(few) / len(images), "images": float(len(few))}
        found = _together((cheap, few), (score(network, self.data, rest, side), rest))
        told |= {"accuracy": found.accuracy, "loss": found.loss}
        return {**told, "fidelity": 1.0, "images": float(len(images))}

    def __getstate__(self) -> dict[str, Any]:
        net = self.supernet
        return {
            "space": net.space.to_mapping(),
            "outputs": (net.num_classes, net.in_channels),
            "weights": {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()},
            "data": self.data,
            "threads": self.threads,
            "screen": self.screen,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        space = SearchSpace.from_mapping(state["space"])
        self.supernet = Supernet(space, *state["outputs"])
        self.supernet.load_state_dict(state["weights"])
        self.data, self.threads, self.screen = state["data"], state["threads"], state["screen"]


def _parted(images: ImageSet, count: int) -> tuple[ImageSet, ImageSet]:
    """So many images at equal steps through the split, and the others."""
    chosen = torch.zeros(len(images), dtype=torch.bool)
    chosen[torch.linspace(0, len(images) - 1, count).round().long()] = True
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
