"""`LatencyTable`: everything measured on one target, as a JSON file. The latency predictor is a function of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from nas.errors import FileError, MeasurementError, SpaceError, UsageError
from nas.files import read_json, write_json
from nas.predictors.energy import Energy
from nas.predictors.target import Target
from nas.predictors.timings import FELT, MAX_SPREAD, Array, Measurement, Speed, noise_reasons, usual_part
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.graph import Node

FORMAT = "nas-latency-table"
VERSION = 7
TRAIN, HELD_OUT = "train", "held-out"
NETWORK = "network:"


@dataclass(frozen=True, slots=True)
class NodeTime:
    """What one node adds to a network's time: one sample (seconds) for each network or repetition it was timed in."""

    node: Node
    samples: tuple[float, ...]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"node": asdict(self.node), "samples": list(self.samples)}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """What `to_mapping` wrote."""
        raw = dict(data["node"])
        raw["side"] = tuple(tuple(shape) for shape in raw.get("side", ()))
        for name in ("in_shape", "out_shape", "inputs", "channels"):
            raw[name] = None if raw[name] is None else tuple(raw[name])
        raw["settings"] = tuple((str(key), value) for key, value in raw["settings"])
        return cls(Node(**raw), tuple(float(value) for value in data["samples"]))


@dataclass(frozen=True, slots=True)
class NetworkTime:
    """One network measured end to end, and whether the predictor may learn from it."""

    architecture: Architecture
    measurement: Measurement
    role: str = TRAIN

    def __post_init__(self) -> None:
        if self.role not in (TRAIN, HELD_OUT):
            raise UsageError(f"the role of a measured network is {TRAIN!r} or {HELD_OUT!r}, got {self.role!r}")


@dataclass
class LatencyTable:
    """Node times by key and network times by digest, of one target and one input and output size.

    `anchor` is the anchor's time (seconds) that all times are normalised to: of a finished profile, its median beside the
    networks, the machine's usual speed. `spent` are the seconds of profiling so far, `census` the networks or nodes whose node
    times have been taken. `refused` holds what the runtime cannot run: operators as `kind:name` and single networks as
    `network:digest`, each with the `reason` and the `share` of the space that has it. `breaks` lists changes of the machine
    between sessions that were too small to refuse (`environment.differences`). `ancestry` names the targets that the node
    times are inherited from; where it is empty they were measured. `energies` holds the energy of some networks, by
    digest. `outsized` is whether nodes larger than those of random networks were looked for (`nas.predictors.outsized`), and
    `factors` are how many times longer than its nodes alone each network took that brought node times, by digest.
    """

    target: Target
    space: str = ""
    in_channels: int = 3
    num_classes: int = 1000
    seed: int = 0
    anchor: float | None = None
    spent: float = 0.0
    census: int = 0
    environment: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, NodeTime] = field(default_factory=dict)
    networks: dict[str, NetworkTime] = field(default_factory=dict)
    refused: dict[str, dict[str, Any]] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)
    ancestry: list[str] = field(default_factory=list)
    energies: dict[str, Energy] = field(default_factory=dict)
    outsized: bool = False
    factors: dict[str, float] = field(default_factory=dict)

    def add(self, architecture: Architecture, measurement: Measurement, role: str = TRAIN) -> None:
        """Record a network. Raises UsageError where it was measured on another target."""
        if measurement.target != str(self.target):
            raise UsageError(f"a measurement on {measurement.target} does not belong into the table of {self.target}")
        self.networks[architecture.digest] = NetworkTime(architecture, measurement, role)

    def add_node(self, node: Node, seconds: float) -> None:
        """Record one sample of a node's time."""
        known = self.nodes.get(node.key)
        samples = (seconds,) if known is None else (*known.samples, seconds)
        self.nodes[node.key] = NodeTime(node, samples)

    def tell_at(self, anchor: float, shared: float = 0.0) -> None:
        """Tell all times at the speed at which the anchor takes so many seconds.

        Quiet times move by one part of it, for groups of networks are at one level. Nodes move as they were told, but so far as
        most are `shared`, on the way to their shares of networks' quiet times, with these.
        """
        factor = anchor / (self.anchor or anchor)
        told, felt = 1.0 if self.target.place else FELT, self.felt
        part = told + shared * (felt - told)
        self.factors = {digest: one * factor ** (felt - told) for digest, one in self.factors.items()}
        self.anchor = anchor
        for key, node in self.nodes.items():
            self.nodes[key] = replace(node, samples=tuple(seconds * factor**part for seconds in node.samples))
        for digest, network in self.networks.items():
            self.networks[digest] = replace(network, measurement=network.measurement.scaled(factor, felt))

    def add_energy(self, architecture: Architecture, energy: Energy) -> None:
        """Record the energy of a network that is in the table. Raises UsageError where it is not, or for another target."""
        if energy.target != str(self.target) or architecture.digest not in self.networks:
            raise UsageError(
                f"an energy of {architecture.digest} on {energy.target} does not belong into the table of {self.target}"
            )
        self.energies[architecture.digest] = energy

    @property
    def felt(self) -> float:
        """How much of the logarithm of the anchor's slowness networks feel: what was found, or what is usual of the target."""
        return usual_part(str(self.target)) if self.part is None else self.part

    @property
    def speed(self) -> Speed | None:
        """The speed of the machine that all times are told at; None before the anchor was measured."""
        return None if self.anchor is None else Speed(self.anchor, self.part)

    @property
    def part(self) -> float | None:
        """What networks were found to feel, in the median of those of which it was found; None where nothing was."""
        found = [item.measurement.part for item in self.networks.values() if item.measurement.part is not None]
        return float(np.median(found)) if found else None

    @property
    def excluded(self) -> frozenset[str]:
        """The operators, as `kind:name`, that the target does not run."""
        return frozenset(label for label in self.refused if not label.startswith(NETWORK))

    def of_role(self, role: str) -> Iterator[NetworkTime]:
        """The measured networks of one role, in the order of their digests: the same in every process."""
        return (self.networks[digest] for digest in sorted(self.networks) if self.networks[digest].role == role)

    def latency(self, networks: Sequence[NetworkTime]) -> Array:
        """The latencies (n,) in seconds by which networks of the table are compared: quiet times, told at the factor at which
        half of the table's medians are above them; the median of a network whose quiet time was not taken."""
        known = [item.measurement for item in self.networks.values() if item.measurement.quiet is not None]
        factor = float(np.median([item.median / (item.quiet or item.median) for item in known])) if known else 1.0
        found = [item.measurement for item in networks]
        return np.array([item.median if item.quiet is None else item.quiet * factor for item in found])

    def require_quiet(self, max_spread: float = MAX_SPREAD) -> None:
        """Raise MeasurementError where the runs of the median network spread by more than `max_spread`."""
        found = sorted((item.measurement for item in self.networks.values()), key=lambda item: item.spread)
        middle = found[len(found) // 2] if found else None
        if middle is not None and middle.spread > max_spread:
            reasons = ", ".join(noise_reasons(middle)) or "why cannot be told"
            raise MeasurementError(
                f"the measurements on {self.target} spread by {middle.spread:.0%} of their median (limit {max_spread:.0%}): "
                f"{reasons}; let the machine rest, delete the table and profile again, or accept the noise explicitly"
            )

    def save(self, path: Path) -> None:
        """Write the file atomically. Raises FileError."""
        data = {name: getattr(self, name) for name in _PLAIN}
        data |= {"format": FORMAT, "version": VERSION, "target": str(self.target)}
        data |= {"outsized": self.outsized, "factors": self.factors}
        data["nodes"] = {key: item.to_mapping() for key, item in self.nodes.items()}
        data["networks"] = {
            digest: {
                "architecture": item.architecture.to_mapping(),
                "measurement": item.measurement.to_mapping(),
                "role": item.role,
            }
            for digest, item in self.networks.items()
        }
        if self.energies:
            data["energies"] = {digest: item.to_mapping() for digest, item in self.energies.items()}
        write_json(path, data)

    @classmethod
    def load(cls, path: Path, target: Target | None = None) -> Self:
        """The table of a file, of `target` if one is given.

        Raises FileError where the file is missing, damaged, of another format, version or target.
        """
        data = read_json(path, "latency table")
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise FileError(f"{path} is no latency table; delete it or name another file")
        if data.get("version") != VERSION:
            version = data.get("version")
            raise FileError(f"latency table {path} has version {version!r}, not {VERSION}; profile again into another file")
        if target is not None and data.get("target") != str(target):
            raise FileError(f"latency table {path} is of target {data.get('target')}, not {target}; name another file")
        try:
            return cls._read(data)
        except (KeyError, TypeError, ValueError, AttributeError, MeasurementError) as error:
            reason = str(error) if isinstance(error, (SpaceError, MeasurementError)) else f"{type(error).__name__}: {error}"
            raise FileError(f"latency table {path} is damaged ({reason}); delete it and profile again") from error

    @classmethod
    def _read(cls, data: dict[str, Any]) -> Self:
        table = cls(Target.parse(data["target"]), **{name: data[name] for name in _PLAIN})
        table.outsized = bool(data.get("outsized", False))
        table.nodes = {key: NodeTime.from_mapping(item) for key, item in data["nodes"].items()}
        for digest, item in data["networks"].items():
            measurement = Measurement.from_mapping(item["measurement"])
            table.networks[digest] = NetworkTime(Architecture.from_mapping(item["architecture"]), measurement, item["role"])
        table.factors = {
            digest: float(factor) for digest, factor in data.get("factors", {}).items() if digest in table.networks
        }
        energies = data.get("energies", {})  # a table without them is as good for everything else
        table.energies = {digest: Energy.from_mapping(item) for digest, item in energies.items() if digest in table.networks}
        return table


_READ_APART = ("target", "nodes", "networks", "energies", "outsized", "factors")
_PLAIN = tuple(item.name for item in fields(LatencyTable) if item.name not in _READ_APART)
