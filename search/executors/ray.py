"""`RayExecutor`: evaluations by Ray actors on this machine or on a cluster.

The evaluator, with the supernet's weights in it, travels once, through Ray's object store; every actor holds it. Each actor
has a thread here that hands it one candidate after the other. When an actor or its node dies, the candidate goes to another
actor, and the thread starts a new one or, where the cluster has no room for it, ends.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

from nas.errors import NasError, UsageError
from nas.search.executors.base import Evaluator, Metrics, WorkersLostError
from nas.search.ray_session import connect
from nas.search_spaces.architecture import Architecture

ATTEMPTS = 3
START_SECONDS = 60.0
RESTART_SECONDS = 20.0


class WorkerDiedError(NasError):
    """The worker of one candidate died again and again while it evaluated it."""


@dataclass
class _Task:
    number: int
    architecture_json: str
    bar: tuple[float, ...] = ()
    future: Future[Metrics] = field(default_factory=Future)
    attempts: int = 0


class _Worker:
    """The actor. Ray resolves the reference to the evaluator before it calls the constructor."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def ready(self) -> bool:
        return True

    def evaluate(self, architecture_json: str, *bar: float) -> dict[str, float]:
        return dict(self.evaluator(architecture_json, *bar))


class RayExecutor:
    """`workers` actors of `num_cpus` CPUs and `num_gpus` GPUs each; use it as a context manager.

    `address` is "local" (a Ray of our own, ended with the context), "auto" (the cluster this machine belongs to), or the
    address of a cluster, on whose machines this package must be installed. `resources` are custom Ray resources that an
    actor needs, for workers pinned to certain machines. A Ray that the process is connected to already is used as it is.
    Raises WorkersLostError where no actor can be started.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        address: str = "local",
        workers: int = 1,
        *,
        num_cpus: int = 1,
        num_gpus: float = 0.0,
        resources: dict[str, float] | None = None,
    ) -> None:
        if workers < 1:
            raise UsageError(f"a search needs at least 1 worker, got {workers}")
        self.workers = workers
        self._address = address
        self._evaluator = evaluator
        self._options: dict[str, Any] = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": resources or {},
            "max_restarts": 0,
        }
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._lanes: list[threading.Thread] = []
        self._actors: set[Any] = set()
        self._alive = 0
        self._closing = False
        self._reason = "no answer"
        self._ours = False

    def __enter__(self) -> Self:
        import ray

        self._ours = connect(self._address, self.workers * self._options["num_cpus"])

        self._reference = ray.put(self._evaluator)
        first = self._start(START_SECONDS)
        if first is None:
            self.__exit__()
            raise WorkersLostError(
                f"Ray at {self._address!r} started no worker with {self._needs()} in {START_SECONDS:.0f} s "
                f"({self._reason}); add machines or ask for less"
            )
        self._alive = self.workers
        for index in range(self.workers):
            lane = threading.Thread(target=self._lane, args=(first if index == 0 else None,), daemon=True)
            self._lanes.append(lane)
            lane.start()
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        self._closing = True
        for _lane in self._lanes:
            self._tasks.put(None)
        with self._lock:
            actors = list(self._actors)
        for actor in actors:
            ray.kill(actor)
        for lane in self._lanes:
            lane.join(timeout=5.0)
        if self._ours:
            ray.shutdown()

    def submit(self, number: int, architecture: Architecture, *bar: float) -> Future[Metrics]:
        """Queue a candidate for the next free actor."""
        task = _Task(number, architecture.to_json(), bar)
        with self._lock:
            if self._alive:
                self._tasks.put(task)
            else:
                task.future.set_exception(self._lost())
        return task.future

    def _start(self, seconds: float) -> Any | None:
        """A new actor that answers, or None where it did not within `seconds`."""
        import ray

        with self._lock:
            if self._closing:
                return None
            actor = ray.remote(_Worker).options(**self._options).remote(self._reference)
            self._actors.add(actor)
        try:
            ray.get(actor.ready.remote(), timeout=seconds)
        except ray.exceptions.RayError as error:
            self._reason = " ".join(str(error).split())[:300]
            self._drop(actor)
            return None
        return actor

    def _drop(self, actor: Any) -> None:
        import ray

        with self._lock:
            self._actors.discard(actor)
        ray.kill(actor)

    def _lane(self, actor: Any | None) -> None:
        """Hand an actor one task after the other; replace it when it dies, give up where it cannot be replaced."""
        try:
            actor = actor or self._start(START_SECONDS)
            while actor is not None:
                task = self._tasks.get()
                if task is None:
                    break
                if not self._run(actor, task):
                    self._drop(actor)
                    self._retry(task)
                    actor = None if self._closing else self._start(RESTART_SECONDS)
        finally:
            # However the thread ends, the search must learn that it has one worker less, or it would wait for ever.
            self._retire()

    def _run(self, actor: Any, task: _Task) -> bool:
        """Whether the actor survived the task; then its future is done."""
        import ray

        task.attempts += 1
        try:
            task.future.set_result(ray.get(actor.evaluate.remote(task.architecture_json, *task.bar)))
        except ray.exceptions.RayTaskError as error:
            task.future.set_exception(error.cause if isinstance(error.cause, Exception) else error)
        except ray.exceptions.RayError:
            return False
        return True

    def _retry(self, task: _Task) -> None:
        if self._closing:
            task.future.cancel()
        elif task.attempts < ATTEMPTS:
            self._tasks.put(task)
        else:
            task.future.set_exception(WorkerDiedError(f"the worker died {ATTEMPTS} times while it evaluated this candidate"))

    def _retire(self) -> None:
        """The last lane to end leaves no future waiting."""
        with self._lock:
            self._alive -= 1
            while self._alive == 0 and not self._tasks.empty():
                task = self._tasks.get()
                if task is not None:
                    task.future.set_exception(self._lost())

    def _lost(self) -> WorkersLostError:
        return WorkersLostError(
            f"all {self.workers} Ray workers at {self._address!r} are gone and none with {self._needs()} could be "
            f"started ({self._reason}); repair the cluster and resume the search"
        )

    def _needs(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self._options.items() if value and name != "max_restarts")
