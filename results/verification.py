"""Measuring what is shipped: a candidate counts only if the exported artefact, on the target, stays under the budget."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from nas.errors import FileError, MeasurementError
from nas.files import read_json, write_json
from nas.predictors.energy import Energy, measure_energy
from nas.predictors.export_pool import reads_onnx
from nas.predictors.measure import measure, prepare
from nas.predictors.meter import Meter
from nas.predictors.target import Target
from nas.predictors.threads import threads
from nas.predictors.timings import Measurement, Speed
from nas.results.export import FORMATS, export
from nas.results.load import load_exported
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.backbone import Backbone

_ATTEMPTS = 3
_SECONDS = 3.0
ENERGY_ROUNDS = 9


@dataclass(frozen=True)
class Verdict:
    """One network measured as exported; `final` marks the winner's last measurement, with its trained weights.

    `energy` is None where it was not asked for, or where nothing counts it.
    """

    architecture: Architecture
    predicted: float
    measurement: Measurement
    accepted: bool
    final: bool = False
    energy: Energy | None = None

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "architecture": self.architecture.to_mapping(),
            "digest": self.architecture.digest,
            "predicted": self.predicted,
            "measurement": self.measurement.to_mapping(),
            "accepted": self.accepted,
            "final": self.final,
            **({} if self.energy is None else {"energy": self.energy.to_mapping()}),
        }

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """What `to_mapping` wrote."""
        architecture, found = Architecture.from_mapping(data["architecture"]), Measurement.from_mapping(data["measurement"])
        energy = Energy.from_mapping(data["energy"]) if "energy" in data else None
        return cls(architecture, float(data["predicted"]), found, bool(data["accepted"]), bool(data["final"]), energy)


def measure_network(
    network: Backbone,
    target: Target,
    num_classes: int,
    in_channels: int,
    *,
    speed: Speed | None = None,
    accept_noise: bool = False,
) -> Measurement:
    """Export a network to a scratch folder and measure the file that the target's runtime loads."""
    with exported(network, target, num_classes, in_channels) as folder:
        side = network.architecture.resolution
        return measure_exported(folder, target, side, in_channels, speed=speed, accept_noise=accept_noise)


@contextlib.contextmanager
def exported(network: Backbone, target: Target, num_classes: int, in_channels: int) -> Iterator[Path]:
    """A scratch folder that holds the network as the target's runtime loads it.

    An int8 file is calibrated on noise: its time does not depend on the ranges.
    """
    side = network.architecture.resolution
    noise = torch.randn(1, in_channels, side, side, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory(prefix="nas-") as scratch:
        folder = Path(scratch) / "candidate"
        formats = dict.fromkeys(("json", "safetensors", "python", delivered(target)))
        export(network, folder, num_classes=num_classes, in_channels=in_channels, formats=formats, calibration=noise)
        yield folder


def delivered(target: Target) -> str:
    """The export format that is measured on the target: what the user would run there."""
    if not reads_onnx(target):
        return "python"
    return "int8" if target.precision == "int8" else "onnx"


def measure_exported(
    folder: Path,
    target: Target,
    resolution: int,
    in_channels: int,
    *,
    speed: Speed | None = None,
    accept_noise: bool = False,
) -> Measurement:
    """Measure an exported network; its times are told at `speed`, by default at that of the machine now.

    A noisy measurement is repeated; the third one's error passes through. Raises MeasurementError where the
    machine is too noisy to believe the numbers.
    """
    artefact = _artefact(folder, target)
    for attempt in range(_ATTEMPTS):
        try:
            return measure(
                artefact, target, resolution, in_channels=in_channels, budget_seconds=_SECONDS, seed=attempt,
                accept_noise=accept_noise, speed=speed,
            )  # fmt: skip
        except MeasurementError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def count_exported(folder: Path, target: Target, meter: Meter, resolution: int, in_channels: int) -> Energy:
    """The energy of an exported network. Raises MeasurementError where the counter cannot be believed thrice."""
    with threads(target.threads):
        run = prepare(_artefact(folder, target), target, resolution, in_channels)
        for attempt in range(_ATTEMPTS):
            try:
                return measure_energy(run, target, meter, rounds=ENERGY_ROUNDS, seed=attempt)
            except MeasurementError:
                if attempt == _ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _artefact(folder: Path, target: Target) -> nn.Module | Path:
    """Of an exported network what the target's runtime loads."""
    form = delivered(target)
    return load_exported(folder) if form == "python" else folder / FORMATS[form]


def read_verdicts(path: Path) -> list[Verdict]:
    """The verdicts of a run so far. Raises FileError for a damaged file."""
    if not path.exists():
        return []
    try:
        return [Verdict.from_mapping(item) for item in read_json(path, "verification")]
    except (TypeError, KeyError, MeasurementError) as error:
        raise FileError(f"verification {path} is damaged ({error}); delete it to measure again") from error


def write_verdicts(path: Path, verdicts: list[Verdict]) -> None:
    """Write all verdicts atomically."""
    write_json(path, [verdict.to_mapping() for verdict in verdicts])
