"""From networks to a job for an agent, and from its raw samples to measurements."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import MeasurementError
from nas.predictors.anchor import Anchor
from nas.predictors.interleaving import Effort
from nas.predictors.quiet import summarise_group
from nas.predictors.remote.agent.jobs import Job, Network, Timed
from nas.predictors.remote.place import place
from nas.predictors.runtimes.onnxruntime import onnx_file
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, Speed

ANCHOR_SHAPE = (1, 3, 64, 64)
ONCE_SECONDS = 0.01


@dataclass(frozen=True)
class Shipped:
    """A network ready to be sent to the place of its target; called, it is run there once."""

    network: Network
    target: Target

    def __call__(self) -> object:
        """Raises MeasurementError where it does not run there."""
        where, side = place(self.target.place), self.network.shape[-1]
        effort = Effort(ONCE_SECONDS, 1)
        return where.measure_runs([self], self.target, [side], effort=effort, seed=0, speed=None, watch=None)


def job_of(networks: Sequence[Network], target: Target, effort: Effort, speed: Speed | None) -> Job:
    """A new job. Where the networks are no ONNX files the agent takes an anchor of its own."""
    own = bool(networks) and not any(looks_like_onnx(network.content) for network in networks)
    return Job(
        uuid.uuid4().hex, target.device, target.runtime, target.precision, target.threads, tuple(networks),
        None if own else anchor_network(), effort.seconds, effort.rounds, effort.precision, effort.cooling,
        None if speed is None else speed.anchor,
    )  # fmt: skip


def shipped(model: nn.Module | Path, example: Tensor, target: Target) -> Shipped:
    """A module's ONNX export for the target (see `onnx_file`), or the file that is given. Raises MeasurementError."""
    shape = tuple(example.shape)
    if isinstance(model, Path):
        try:
            content = model.read_bytes()
        except OSError as error:
            raise MeasurementError(f"cannot read the network {model}: {error.strerror or error}; export it again") from error
        if not looks_like_onnx(content):
            return Shipped(Network(content, shape), target)
    return Shipped(Network(_exported(model, example, target), shape), target)


@cache
def anchor_network() -> Network:
    """The anchor of `nas.predictors.anchor` as an ONNX file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(_exported(Anchor(), torch.zeros(ANCHOR_SHAPE), Target()), ANCHOR_SHAPE)


def measurements(timed: Timed, target: Target, sides: Sequence[int], seed: int, speed: Speed | None) -> list[Measurement]:
    """What the raw samples say. Raises MeasurementError where they are not those of as many networks."""
    if len(timed.visits) != len(sides):
        raise MeasurementError(f"the agent measured {len(timed.visits)} networks of {len(sides)}; measure again")
    return summarise_group(timed.visits, timed.anchor, str(target), sides, seed, speed)


def looks_like_onnx(content: bytes) -> bool:
    """Whether a file is a serialised ONNX model: it begins with its version, a small number, in field 1; TFLite's do not."""
    return content[:1] == b"\x08" and content[4:8] != b"TFL3"


def _exported(model: nn.Module | Path, example: Tensor, target: Target) -> bytes:
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        return onnx_file(model, example, target, Path(folder)).read_bytes()
