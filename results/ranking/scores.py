"""What networks are ranked by: the supernet's scores of them, and what is known without it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from nas.errors import DivergedError
from nas.predictors.proxies import proxy_names, proxy_scores
from nas.results.origins import weights_digest
from nas.results.ranking.kept import KeptScores
from nas.results.supernet_run import SupernetRun
from nas.search.evaluation import SupernetEvaluator, sizes
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import build
from nas.supernet.adaptation import Adaptation, adapt
from nas.supernet.calibration import calibrate, score
from nas.supernet.data import DataSplits
from nas.supernet.training import one_thread_an_operation

ACCURACY, LOSS = "accuracy", "loss"
SCORES = (ACCURACY, LOSS)
COUNTS = ("params", "macs")
LOST = 1e9
"""The loss (nats) of a network that has none: larger than any that is one."""
_PROXY_IMAGES = 64


def inherited_scores(run: SupernetRun, adaptation: Adaptation, folder: Path) -> KeptScores:
    """`accuracy`, `loss` (nats) and `cpu_seconds` of networks with the weights of a run's supernet, after an adaptation.

    The supernet, which must be trained, is read where the first network is scored. A network whose copy diverges, or whose
    loss is no number, knows nothing: its accuracy is 0 and its loss LOST.
    """

    @cache
    def evaluator() -> SupernetEvaluator:
        run.require_trained()
        return SupernetEvaluator(run.supernet, run.data, run.config.threads, adaptation=adaptation)

    def scored(architecture: Architecture) -> Mapping[str, float]:
        evaluate, began = evaluator(), time.process_time()
        try:
            found = evaluate(architecture.to_json())
        except DivergedError:
            return _told(0.0, math.nan, began)
        return _told(found[ACCURACY], found[LOSS], began)

    identity = {
        "weights": weights_digest(run.folder.checkpoint),
        "space": run.space.to_mapping(),
        "data": run.data.fingerprint,
        "threads": run.config.threads,
        "adaptation": adaptation.identity(),
    }
    return KeptScores(folder / "inherited", identity, scored)


def alone_scores(data: DataSplits, adaptation: Adaptation, folder: Path) -> KeptScores:
    """As `inherited_scores`, of networks with fresh weights: what the adaptation tells without a supernet."""
    outputs = len(data.classes), data.in_channels

    def scored(architecture: Architecture) -> Mapping[str, float]:
        began = time.process_time()
        with one_thread_an_operation(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(adaptation.seed)
            network = build(architecture, *outputs)
            try:
                adapt(network, data, adaptation, architecture.resolution)
            except DivergedError:
                return _told(0.0, math.nan, began)
            calibrate(network, data, architecture.resolution)
            found = score(network, data, data.validation, architecture.resolution)
        return _told(found.accuracy, found.loss, began)

    return KeptScores(folder / "alone", {"data": data.fingerprint, "adaptation": adaptation.identity()}, scored)


def _told(accuracy: float, loss: float, began: float) -> dict[str, float]:
    """The scores of a network, finite in any case, and the processor's seconds since it was begun."""
    lost = not math.isfinite(loss)
    found = {ACCURACY: 0.0, LOSS: LOST} if lost else {ACCURACY: accuracy, LOSS: loss}
    return {**found, "cpu_seconds": time.process_time() - began}


def higher_is_better(found: Mapping[str, float], score: str) -> float:
    """A score of SCORES so that more is better."""
    return -found[LOSS] if score == LOSS else found[score]


def baseline_scores(data: DataSplits, seed: int, folder: Path) -> KeptScores:
    """`params`, `macs` and every zero-cost proxy of networks with fresh weights of a seed, on 64 training images."""
    classes, channels = len(data.classes), data.in_channels
    names = [name for name in proxy_names() if name not in COUNTS]
    places = torch.linspace(0, len(data.train) - 1, min(_PROXY_IMAGES, len(data.train))).round().long()
    batch = data.train.take(places)

    def scored(architecture: Architecture) -> Mapping[str, float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(architecture, classes, channels)
        images = data.prepare(batch.images, architecture.resolution)
        return {**sizes(architecture, classes, channels), **proxy_scores(network, images, batch.labels, names)}

    identity = {"data": data.fingerprint, "seed": seed, "names": names, "images": len(batch)}
    return KeptScores(folder / "baselines", identity, scored)
