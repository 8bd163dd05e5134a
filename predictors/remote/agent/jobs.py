"""What a client asks an agent to measure and what comes back, as messages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nas.predictors.machine import MachineState
from nas.predictors.remote.agent.wire import Message, WireError
from nas.predictors.timings import Visit

ID = re.compile(r"[0-9a-f]{32}")
MAX_NETWORKS = 256
MAX_VALUES = 1 << 28
MAX_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Network:
    """An exported network as bytes, and the shape of its one float32 input."""

    content: bytes
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """Networks that are measured interleaved, with the anchor beside them.

    `device`, `runtime`, `precision` and `threads` are those of the target. `seconds` a network, `rounds`, `narrow` and
    `cooling` say how long to measure: as `Effort` does, which calls `narrow` precision. `reference` is the anchor's time
    (seconds) that counts as undisturbed. Without an `anchor` network the agent multiplies matrices by numpy.
    """

    id: str
    device: str
    runtime: str
    precision: str
    threads: int
    networks: tuple[Network, ...]
    anchor: Network | None = None
    seconds: float = 2.0
    rounds: int = 4
    narrow: float = 0.01
    cooling: float = 0.0
    reference: float | None = None

    def to_message(self) -> Message:
        """A header of plain values, and the networks one after another."""
        header = {name: getattr(self, name) for name in _PLAIN}
        header["networks"] = [_about(network) for network in self.networks]
        header["anchor"] = None if self.anchor is None else _about(self.anchor)
        contents = [network.content for network in self.networks]
        return header, b"".join(contents if self.anchor is None else [*contents, self.anchor.content])

    @classmethod
    def from_message(cls, header: Mapping[str, Any], body: bytes) -> Self:
        """The job that `to_message` wrote. Raises WireError for anything else."""
        try:
            abouts = [*header["networks"], *([] if header["anchor"] is None else [header["anchor"]])]
            found = _networks(abouts, body)
            number = len(header["networks"])
            plain = {name: header[name] for name in _PLAIN}
            job = cls(networks=tuple(found[:number]), anchor=found[number] if len(found) > number else None, **plain)
            job._require()
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise WireError(f"a job is damaged ({type(error).__name__}: {error}); it is refused") from error
        return job

    def _require(self) -> None:
        """Raise ValueError for a value that cannot be meant, TypeError for one of a wrong type."""
        require_id(self.id)
        if not all(isinstance(value, str) for value in (self.device, self.runtime, self.precision)):
            raise TypeError("device, runtime and precision are texts")
        if len(self.networks) > MAX_NETWORKS:
            raise ValueError(f"{len(self.networks)} networks are more than {MAX_NETWORKS}")
        if not (isinstance(self.threads, int) and isinstance(self.rounds, int)):
            raise TypeError("threads and rounds are whole numbers")
        if not (1 <= self.threads <= 4096 and 1 <= self.rounds <= 10_000 and 0 < self.seconds <= MAX_SECONDS):
            raise ValueError(f"threads={self.threads}, rounds={self.rounds} or seconds={self.seconds} is out of range")
        if not 0 <= self.cooling <= MAX_SECONDS:
            raise ValueError(f"cooling={self.cooling} is out of range")
        if not (self.narrow >= 0 and (self.reference is None or (self.reference > 0 and math.isfinite(self.reference)))):
            raise ValueError(f"narrow={self.narrow} or reference={self.reference} is out of range")


_PLAIN = ("id", "device", "runtime", "precision", "threads", "seconds", "rounds", "narrow", "cooling", "reference")


@dataclass(frozen=True, slots=True)
class Timed:
    """Raw samples: the visits of every network, and of the anchor, one a round."""

    visits: list[list[Visit]]
    anchor: list[Visit]

    def to_message(self, about: Mapping[str, Any]) -> Message:
        """A header with `about` and what is known of each visit, and their samples as float64, little-endian."""
        everything = [*self.visits, self.anchor]
        samples = [value for visits in everything for visit in visits for value in (*visit.seconds, *visit.beside)]
        header = {**about, "visits": [[_visit_about(visit) for visit in visits] for visits in everything]}
        return header, np.asarray(samples, "<f8").tobytes()

    @classmethod
    def from_message(cls, header: Mapping[str, Any], body: bytes) -> Self:
        """The samples that `to_message` wrote. Raises WireError for anything else."""
        try:
            samples = np.frombuffer(body, "<f8").tolist()
            everything = [[_visit_of(data, samples) for data in visits] for visits in header["visits"]]
            rounds = len(everything[-1])
            if samples or any(not 0 <= visit.round < rounds for visits in everything for visit in visits):
                raise ValueError("lengths or rounds that do not fit")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise WireError(f"a result is damaged ({type(error).__name__}: {error}); measure again") from error
        return cls(everything[:-1], everything[-1])


def _visit_about(visit: Visit) -> dict[str, Any]:
    return {
        "at": visit.at,
        "round": visit.round,
        "n": len(visit.seconds),
        "beside": bool(visit.beside),
        "interruptions": visit.interruptions,
        "settled": visit.settled,
        "state": visit.state.to_mapping(),
    }


def _visit_of(data: Mapping[str, Any], samples: list[float]) -> Visit:
    """The visit of a description, whose samples are taken off the front of `samples`."""
    number, state = data["n"], dict(data["state"])
    both = 2 * number if data["beside"] else number
    if not 0 < number <= both <= len(samples):
        raise ValueError(f"{both} samples of {len(samples)}")
    taken, samples[:both] = tuple(samples[:both]), []
    state["cpus"] = tuple(state.get("cpus", ()))
    return Visit(
        float(data["at"]),
        int(data["round"]),
        taken[:number],
        data["interruptions"],
        MachineState(**state),
        bool(data["settled"]),
        taken[number:],
    )


def require_id(text: object) -> str:
    """The job's id, 32 lower-case hexadecimal digits. Raises ValueError for anything else: it becomes a file's name."""
    if not (isinstance(text, str) and ID.fullmatch(text)):
        raise ValueError(f"{text!r} is no id of a job")
    return text


def _about(network: Network) -> dict[str, Any]:
    return {"bytes": len(network.content), "shape": list(network.shape)}


def _networks(abouts: Sequence[Mapping[str, Any]], body: bytes) -> list[Network]:
    """The networks in a body, each as long as its description says."""
    found, start = [], 0
    for about in abouts:
        number, shape = int(about["bytes"]), tuple(int(side) for side in about["shape"])
        if number < 0 or not shape or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
            raise ValueError(f"a network of {number} bytes with an input of shape {shape}")
        found.append(Network(body[start : start + number], shape))
        start += number
    if start != len(body):
        raise ValueError(f"networks of {start} bytes in a body of {len(body)}")
    return found
