"""What places with an agent have in common: networks are exported here, measured there, and summarised here."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from nas.errors import MeasurementError, UsageError
from nas.predictors.remote.agent.channel import PROTOCOL, other_protocol
from nas.predictors.remote.agent.jobs import Job, Timed
from nas.predictors.remote.agent.wire import Message, WireError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nas.predictors.interleaving import Effort
    from nas.predictors.measure import Run, Watch
    from nas.predictors.target import Target
    from nas.predictors.timings import Measurement, Speed

WORD = re.compile(r"[a-z0-9_.-]+")
NEEDS_TORCH = ("eager", "compile")
ANCHOR_SECONDS = 2.0


class Link(Protocol):
    """A way to one agent."""

    def describe(self) -> dict[str, Any]:
        """What the agent says about itself. Raises MeasurementError."""

    def run(self, job: Job) -> Message:
        """The result of a job. Raises MeasurementError."""


class AgentPlace(ABC):
    """An agent behind a link."""

    default_runtime: ClassVar[str] = "onnxruntime"
    preparation: ClassVar[float] = 2.0
    ships_onnx: ClassVar[bool] = True

    @abstractmethod
    def link(self) -> Link:
        """A way to the agent. Raises MeasurementError, FileError or UsageError."""

    def check(self, target: Target) -> None:
        """Raise UsageError where the runtime needs PyTorch, or a word of the target is none."""
        if target.runtime in NEEDS_TORCH:
            raise UsageError(
                f"runtime {target.runtime!r} needs PyTorch, and an agent runs exported networks without it; write "
                f"'cpu:{self.default_runtime}@...', or use a Ray node"
            )
        for what in ("device", "runtime", "precision"):
            if not WORD.fullmatch(getattr(target, what)):
                raise UsageError(f"{what} {getattr(target, what)!r} of a target is no word of small letters and digits")

    def require(self, target: Target) -> None:
        """Raise MeasurementError where the agent does not answer, is of another version, or lacks the runtime."""
        about = self.link().describe()
        if about.get("agent") != PROTOCOL:
            raise MeasurementError(other_protocol(about.get("agent")))
        known = about.get("runtimes", {})
        if target.runtime not in known:
            raise MeasurementError(
                f"target {target} cannot be measured: the agent there has no runtime {target.runtime!r}, it has "
                f"{', '.join(sorted(known)) or 'none'}; install it there or start the agent with --runtime"
            )

    def environment(self, target: Target) -> dict[str, Any]:
        """What the device says about itself."""
        return self._anchor(target, 1)[1]

    def anchor_seconds(self, target: Target, rounds: int) -> float:
        """The median of the anchor's visits."""
        return float(np.median([np.median(visit.seconds) for visit in self._anchor(target, rounds)[0].anchor]))

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Run:
        """The network as a file, to be sent."""
        from nas.predictors.remote.job import shipped

        return shipped(model, example, target)

    def measure_runs(
        self,
        runs: Sequence[Run],
        target: Target,
        sides: Sequence[int],
        *,
        effort: Effort,
        seed: int,
        speed: Speed | None,
        watch: Watch | None,
    ) -> list[Measurement]:
        """One job of all networks."""
        from nas.predictors.remote.job import Shipped, job_of, measurements

        networks = [run.network for run in runs if isinstance(run, Shipped)]
        timed, _ = self._run(job_of(networks, target, effort, speed), target)
        if watch is not None:
            for position, visits in enumerate(timed.visits):
                watch(position, visits)
            watch(None, timed.anchor)
        return measurements(timed, target, sides, seed, speed)

    def _anchor(self, target: Target, rounds: int) -> tuple[Timed, dict[str, Any]]:
        from nas.predictors.interleaving import Effort
        from nas.predictors.remote.job import job_of

        return self._run(job_of([], target, Effort(ANCHOR_SECONDS, rounds), None), target)

    def _run(self, job: Job, target: Target) -> tuple[Timed, dict[str, Any]]:
        """The samples of a job and the device's environment."""
        from nas.predictors.visits import RunFailedError

        header, body = self.link().run(job)
        if header.get("state") != "done":
            position, why = header.get("network"), header.get("error", "no reason was given")
            if isinstance(position, int) and 0 <= position < len(job.networks):
                raise RunFailedError(f"{target} does not run network {position + 1} of {len(job.networks)}: {why}", position)
            raise MeasurementError(f"target {target} cannot be measured: {why}")
        try:
            return Timed.from_message(header, body), dict(header["environment"])
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"the result of {target} is damaged ({type(error).__name__}: {error}); measure again") from error
