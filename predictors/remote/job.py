"""From networks to a job for an agent, and from its raw samples to measurements."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nas.errors import FileError, MeasurementError
from nas.predictors.anchor import Anchor
from nas.predictors.measure import Effort
from nas.predictors.remote.agent.jobs import Job, Network, Timed
from nas.predictors.timings import Measurement, drift_factors, summarise
from nas.predictors.tracing import onnx_model, trace_static

if TYPE_CHECKING:
    from nas.predictors.target import Target

ANCHOR_SHAPE = (1, 3, 64, 64)


def job_of(networks: Sequence[Network], target: Target, effort: Effort, reference: float | None) -> Job:
    """A new job. Where the networks are no ONNX files the agent takes an anchor of its own."""
    own = bool(networks) and not any(looks_like_onnx(network.content) for network in networks)
    return Job(
        uuid.uuid4().hex, target.device, target.runtime, target.precision, target.threads, tuple(networks),
        None if own else anchor_network(), effort.seconds, effort.rounds, effort.precision, reference,
    )  # fmt: skip


def network_of(model: nn.Module | Path, target: Target, side: int, in_channels: int) -> Network:
    """A module's ONNX export for the target's batch, or the file that is given, as it is. Raises MeasurementError."""
    shape = (target.batch, in_channels, side, side)
    if isinstance(model, nn.Module):
        return Network(onnx_bytes(model, torch.zeros(shape)), shape)
    try:
        return Network(model.read_bytes(), shape)
    except OSError as error:
        raise MeasurementError(f"cannot read the network {model}: {error.strerror or error}; export it again") from error


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The ONNX file of a module, which is left as it was. Raises MeasurementError."""
    try:
        program: Any = onnx_model(trace_static(copy.deepcopy(model).eval().cpu().float(), example))
    except FileError as error:
        raise MeasurementError(f"the network cannot be exported to ONNX: {error}") from error
    found: bytes = program.model_proto.SerializeToString()
    return found


@cache
def anchor_network() -> Network:
    """The anchor of `nas.predictors.anchor` as an ONNX file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(onnx_bytes(Anchor(), torch.zeros(ANCHOR_SHAPE)), ANCHOR_SHAPE)


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
