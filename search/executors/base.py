"""What an executor is: where candidates are evaluated, behind `concurrent.futures.Future`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol, Self

from nas.errors import NasError
from nas.search_spaces.architecture import Architecture

Metrics = Mapping[str, float]


class Evaluator(Protocol):
    """Evaluates an architecture from its JSON; picklable, as it may have to travel."""

    def __call__(self, architecture_json: str) -> Metrics:
        """The metrics of the candidate, in SI units. What it raises makes the trial a failed one."""


class WorkersLostError(NasError):
    """No worker is left to evaluate anything: the search must end here, and can be resumed."""


class Executor(Protocol):
    """Runs evaluations, at most `workers` at a time; a context manager that frees its workers at the end."""

    @property
    def workers(self) -> int:
        """How many candidates to keep in flight."""

    def submit(self, number: int, architecture: Architecture) -> Future[Metrics]:
        """Evaluate a candidate. The future raises what the evaluator raised, or WorkersLostError."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
