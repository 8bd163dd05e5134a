"""From networks to a job for an agent, and from its raw samples to measurements."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import nn

from nas.errors import MeasurementError
from nas.predictors.anchor import Anchor
from nas.predictors.measure import Effort
from nas.predictors.remote.agent.jobs import Job, Network, Timed
from nas.predictors.runtimes.onnxruntime import onnx_file
from nas.predictors.target import Target
from nas.predictors.timings import Measurement, drift_factors, summarise

ANCHOR_SHAPE = (1, 3, 64, 64)


def job_of(networks: Sequence[Network], target: Target, effort: Effort, reference: float | None) -> Job:
    """A new job. Where the networks are no ONNX files the agent takes an anchor of its own."""
    own = bool(networks) and not any(looks_like_onnx(network.content) for network in networks)
    return Job(
        uuid.uuid4().hex, target.device, target.runtime, target.precision, target.threads, tuple(networks),
        None if own else anchor_network(), effort.seconds, effort.rounds, effort.precision, reference,
    )  # fmt: skip


def network_of(model: nn.Module | Path, target: Target, side: int, in_channels: int) -> Network:
    """A module's ONNX export in the target's batch and precision, or the file that is given. Raises MeasurementError."""
    shape = (target.batch, in_channels, side, side)
    if isinstance(model, Path):
        try:
            content = model.read_bytes()
        except OSError as error:
            raise MeasurementError(f"cannot read the network {model}: {error.strerror or error}; export it again") from error
        if not looks_like_onnx(content):
            return Network(content, shape)
    return Network(_exported(model, shape, target), shape)


@cache
def anchor_network() -> Network:
    """The anchor of `nas.predictors.anchor` as an ONNX file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(_exported(Anchor(), ANCHOR_SHAPE, Target()), ANCHOR_SHAPE)


def measurements(timed: Timed, target: Target, sides: Sequence[int], seed: int, reference: float | None) -> list[Measurement]:
    """What the raw samples say. Raises MeasurementError where they are not those of as many networks."""
    if len(timed.visits) != len(sides):
        raise MeasurementError(f"the agent measured {len(timed.visits)} networks of {len(sides)}; measure again")
    factors = drift_factors(timed.anchors, reference=reference)
    return [
        summarise(visits, [factors[number] for number in rounds], str(target), side, seed)
        for visits, rounds, side in zip(timed.visits, timed.rounds, sides, strict=True)
    ]


def looks_like_onnx(content: bytes) -> bool:
    """Whether a file is a serialised ONNX model: it begins with its version, a small number, in field 1; TFLite's do not."""
    return content[:1] == b"\x08" and content[4:8] != b"TFL3"


def _exported(model: nn.Module | Path, shape: tuple[int, ...], target: Target) -> bytes:
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="nas-onnx-") as folder:
        return onnx_file(model, example, target, Path(folder)).read_bytes()
