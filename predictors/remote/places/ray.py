"""`@ray:NAME`: a node of a Ray cluster that was started with the custom resource `nas_device_NAME`.

The node has this package and PyTorch, so every runtime is measured there, `eager` and `compile` too. A measurement takes the
whole resource: one runs at a time, whoever asked for it.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from nas.errors import MeasurementError, NasError, UsageError
from nas.predictors.remote.place import register_place

if TYPE_CHECKING:
    from nas.predictors.interleaving import Effort
    from nas.predictors.measure import Run, Watch
    from nas.predictors.target import Target
    from nas.predictors.timings import Measurement, Speed, Visit

RETRIES = 2
PREFIX = "nas_device_"


@dataclass(frozen=True)
class Sent:
    """A network for a node; called, it is run there once."""

    model: nn.Module | bytes
    example: Tensor
    target: str
    node: RayNode

    def __call__(self) -> object:
        """Raises MeasurementError where it does not run there."""
        return self.node.run(_run_once, self.model, self.example, self.target)


@dataclass
class Found:
    """What a node measured: raw visits by position (None: the anchor), or which network did not run, and why."""

    measurements: list[Measurement] = field(default_factory=list)
    visits: dict[int | None, Sequence[Visit]] = field(default_factory=dict)
    failure: str | None = None
    position: int | None = None


@register_place
class RayNode:
    """The node of a Ray cluster that offers a device. The cluster is RAY_ADDRESS, or the one this machine belongs to."""

    name: ClassVar[str] = "ray"
    default_runtime: ClassVar[str] = "eager"
    preparation: ClassVar[float] = 2.0
    ships_onnx: ClassVar[bool] = False

    def __init__(self, where: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", where):
            raise UsageError(f"{where!r} is no name of a Ray device; write e.g. cpu:onnxruntime@ray:pi for {PREFIX}pi")
        self._resource = PREFIX + where

    def check(self, target: Target) -> None:
        """Raise UsageError where this machine's package does not know such a target: the node has the same package."""
        _here(target)

    def require(self, target: Target) -> None:
        """Raise MeasurementError where no node offers the device, or the node lacks what the target needs."""
        self.run(_require, str(_here(target)))

    def environment(self, target: Target) -> dict[str, Any]:
        """The node's environment."""
        found: dict[str, Any] = self.run(_environment, target.runtime)
        return found

    def anchor_seconds(self, target: Target, rounds: int) -> float:
        """The anchor's median on the node."""
        return float(self.run(_anchor_seconds, str(_here(target)), rounds))

    def prepare(self, model: nn.Module | Path, example: Tensor, target: Target) -> Run:
        """The network, to be sent; it is prepared there."""
        return Sent(model if isinstance(model, nn.Module) else model.read_bytes(), example, str(_here(target)), self)

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
        """One task of all networks; files travel as bytes."""
        sent = [(run.model, run.example) for run in runs if isinstance(run, Sent)]
        options = {"effort": effort, "seed": seed, "speed": speed}
        found: Found = self.run(_measure, sent, str(_here(target)), list(sides), options)
        if watch is not None:
            for position, visits in found.visits.items():
                watch(position, visits)
        if found.failure is not None:
            from nas.predictors.visits import RunFailedError

            raise RunFailedError(f"{target}: {found.failure}", found.position)
        return [replace(item, target=str(target)) for item in found.measurements]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the function returns on the node. Raises MeasurementError."""
        ray = self._connected()
        task = ray.remote(function).options(num_cpus=0, resources={self._resource: 1}, max_retries=RETRIES)
        try:
            return ray.get(task.remote(*arguments))
        except ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, NasError) else error
            raise MeasurementError(f"Ray device {self._resource}: {' '.join(str(cause).split())[-500:]}") from error
        except ray.exceptions.RayError as error:
            raise MeasurementError(
                f"Ray device {self._resource} was lost while it measured ({type(error).__name__}); start its node again, "
                "and run this again"
            ) from error

    def _connected(self) -> Any:
        """Ray, connected to a cluster that has the device. Raises MeasurementError."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        try:
            if not ray.is_initialized():
                ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
            offered = sorted(name for name in ray.cluster_resources() if name.startswith(PREFIX))
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise MeasurementError(f"cannot reach Ray for {self._resource}: {' '.join(str(error).split())[:300]}") from error
        if self._resource not in offered:
            raise MeasurementError(
                f"no node of the Ray cluster offers {self._resource} (offered: {', '.join(offered) or 'none'}); start it on "
                f"the device by: ray start --address=HEAD:6379 --num-cpus=0 --resources='{{\"{self._resource}\": 1}}'"
            )
        return ray


def _here(target: Target) -> Target:
    return replace(target, place="")


def _require(target: str) -> None:
    from nas.predictors.target import Target

    Target.parse(target).require()


def _environment(runtime: str) -> dict[str, Any]:
    from nas.predictors.environment import environment

    return environment(runtime)


def _anchor_seconds(target: str, rounds: int) -> float:
    from nas.predictors.measure import anchor_seconds
    from nas.predictors.target import Target

    return anchor_seconds(Target.parse(target), rounds)


def _run_once(model: nn.Module | bytes, example: Tensor, target: str) -> None:
    from nas.predictors.measure import run_once
    from nas.predictors.target import Target

    with tempfile.TemporaryDirectory(prefix="nas-ray-") as folder:
        run_once(_laid_down(model, Path(folder)), example, Target.parse(target))


def _measure(
    sent: Sequence[tuple[nn.Module | bytes, Tensor]], target: str, sides: Sequence[int], options: dict[str, Any]
) -> Found:
    """Prepare and measure on the node; files are laid down there first."""
    from nas.predictors.measure import checked, measure_runs
    from nas.predictors.target import Target
    from nas.predictors.threads import threads
    from nas.predictors.visits import RunFailedError

    here, runs, found = Target.parse(target), [], Found()
    with tempfile.TemporaryDirectory(prefix="nas-ray-") as folder:
        try:
            for model, example in sent:
                with threads(here.threads):
                    runs.append(checked(_laid_down(model, Path(folder)), example, here))
        except MeasurementError as error:
            return Found(failure=str(error), position=len(runs))
        try:
            found.measurements = measure_runs(runs, here, sides, watch=found.visits.__setitem__, **options)
        except RunFailedError as error:
            found.failure, found.position = str(error), error.position
    return found


def _laid_down(model: nn.Module | bytes, folder: Path) -> nn.Module | Path:
    if isinstance(model, nn.Module):
        return model
    path = folder / f"network-{len(list(folder.iterdir()))}.onnx"
    path.write_bytes(model)
    return path
