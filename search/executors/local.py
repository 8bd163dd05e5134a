"""`LocalExecutor`: evaluations in this process, one after the other."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Self

from nas.search.executors.base import Evaluator, Metrics
from nas.search_spaces.architecture import Architecture


class LocalExecutor:
    """Evaluates while `submit` is called, so that the interrupt key stops an evaluation at once."""

    workers = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def submit(self, number: int, architecture: Architecture, *bar: float) -> Future[Metrics]:
        """A future that is done."""
        future: Future[Metrics] = Future()
        try:
            future.set_result(dict(self.evaluator(architecture.to_json(), *bar)))
        except Exception as error:  # whatever an evaluation raises belongs to its trial
            future.set_exception(error)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to free."""
