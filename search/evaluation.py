"""Evaluating candidates with a trained supernet: extract, calibrate, score on the validation split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nas.predictors.cost import Cost, node_cost
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import nodes
from nas.search_spaces.space import SearchSpace
from nas.supernet.calibration import calibrate, score
from nas.supernet.data import DataSplits
from nas.supernet.supernet import Supernet


class SupernetEvaluator:
    """Architecture JSON -> `accuracy` and `loss` on the validation split with inherited weights, `params` and `macs`.

    Pickles as weights and data, so that it travels once to each worker; the supernet is rebuilt there. `threads` is part of
    the answer (sums are rounded in another order), so it goes along.
    """

    def __init__(self, supernet: Supernet, data: DataSplits, threads: int) -> None:
        self.supernet, self.data, self.threads = supernet, data, threads

    def __call__(self, architecture_json: str) -> Mapping[str, float]:
        """Accuracy as a fraction, loss in nats."""
        architecture = Architecture.from_json(architecture_json)
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            network = self.supernet.extract(architecture).eval()
            calibrate(network, self.data, architecture.resolution)
            found = score(network, self.data, self.data.validation, architecture.resolution)
        finally:
            torch.set_num_threads(before)
        outputs = self.supernet.num_classes, self.supernet.in_channels
        return {"accuracy": found.accuracy, "loss": found.loss, **sizes(architecture, *outputs)}

    def __getstate__(self) -> dict[str, Any]:
        net = self.supernet
        return {
            "space": net.space.to_mapping(),
            "outputs": (net.num_classes, net.in_channels),
            "weights": {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()},
            "data": self.data,
            "threads": self.threads,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        space = SearchSpace.from_mapping(state["space"])
        self.supernet = Supernet(space, *state["outputs"])
        self.supernet.load_state_dict(state["weights"])
        self.data, self.threads = state["data"], state["threads"]


def sizes(architecture: Architecture, num_classes: int, in_channels: int) -> dict[str, float]:
    """`params` and `macs` of an architecture, summed over its nodes; a node seen before costs nothing."""
    found = Cost.total(node_cost(node) for node in nodes(architecture, None, in_channels, num_classes))
    return {"params": float(found.params), "macs": float(found.macs)}
