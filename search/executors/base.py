"""What an executor is: where candidates are evaluated, behind `concurrent.futures.Future`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Protocol, Self

from nas.errors import NasError
from nas.search_spaces.architecture import Architecture

Metrics = Mapping[str, float]


Evaluator = Callable[..., Metrics]
"""Architecture JSON -> the metrics of the candidate, in SI units; picklable, as it may have to travel.

What it raises makes the trial a failed one. One that gives cheap scores first takes a second argument, the bar that they must
reach for a full score, and tells by a `fidelity` below 1 that one did not. No other is ever handed a bar.
"""


class WorkersLostError(NasError):
    """No worker is left to evaluate anything: the search must end here, and can be resumed."""


class Executor(Protocol):
    """Runs evaluations, at most `workers` at a time; a context manager that frees its workers at the end."""

    @property
    def workers(self) -> int:
        """How many candidates to keep in flight."""

    def submit(self, number: int, architecture: Architecture, *bar: float) -> Future[Metrics]:
        """Evaluate a candidate; a `bar` is handed on to the evaluator.

        The future raises what the evaluator raised, or WorkersLostError.
        """

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...
