"""The worker: takes one job after another from the spool, measures it, and leaves the result there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from nas.errors import MeasurementError, NasError
from nas.predictors.interleaving import Effort, interleave
from nas.predictors.remote.agent.about import about
from nas.predictors.remote.agent.jobs import Job, Timed
from nas.predictors.remote.agent.registry import AgentRuntime, Run, Wanted, agent_runtime, prepared
from nas.predictors.remote.agent.spool import Spool
from nas.predictors.remote.agent.wire import Message
from nas.predictors.visits import RunFailedError, Series

POLL_SECONDS = 0.3
PRUNE_SECONDS = 3600.0
MATRIX = 96


class Worker:
    """Measures the jobs of a spool, one at a time. `changed` is notified whenever one has been finished or handed in."""

    def __init__(self, spool: Spool, say: Callable[[str], None] = lambda text: None) -> None:
        self.spool, self.say = spool, say
        self.changed = threading.Condition()
        self.stopping = threading.Event()

    def run(self, poll: float = POLL_SECONDS) -> None:
        """Work until `stopping` is set; an empty spool is looked at every `poll` seconds, or when `changed` is notified."""
        self.spool.recover()
        pruned = -PRUNE_SECONDS
        while not self.stopping.is_set():
            if time.monotonic() - pruned > PRUNE_SECONDS:
                self.spool.prune()
                pruned = time.monotonic()
            if not self.step():
                with self.changed:
                    self.changed.wait(poll)

    def step(self) -> bool:
        """Measure the oldest job, if there is one."""
        name = self.spool.take()
        if name is None:
            return False
        began = time.monotonic()
        try:
            job = Job.from_message(*self.spool.job(name))
            self.say(f"job {name[:8]}: {len(job.networks)} networks on {job.device}:{job.runtime}")
            found = measure_job(job)
        except NasError as error:
            found = {"state": "failed", "error": str(error), "network": getattr(error, "position", None)}, b""
        except KeyboardInterrupt:
            self.spool.put_back(name)
            raise
        self.spool.finish(name, *found)
        self.say(f"job {name[:8]}: {found[0].get('error', 'done')} ({time.monotonic() - began:.1f} s)")
        with self.changed:
            self.changed.notify_all()
        return True


def measure_job(job: Job) -> Message:
    """The result of a job. Raises RunFailedError for a network that does not run, else MeasurementError."""
    runtime = agent_runtime(job.runtime)
    before = about(runtime.version())
    wanted = Wanted(job.device, job.precision, job.threads)
    beside = Series(_anchor(job, runtime, wanted))
    series = [Series(_network(job, index, runtime, wanted), index) for index in range(len(job.networks))]
    interleave(series, beside, job.threads, Effort(job.seconds, job.rounds, job.narrow, job.cooling), job.reference)
    timed = Timed([item.visits for item in series], beside.visits)
    return timed.to_message({"state": "done", "environment": before})


def _network(job: Job, index: int, runtime: AgentRuntime, wanted: Wanted) -> Run:
    network = job.networks[index]
    try:
        return prepared(runtime, network.content, network.shape, wanted)
    except MeasurementError as error:
        raise RunFailedError(str(error), index) from error


def _anchor(job: Job, runtime: AgentRuntime, wanted: Wanted) -> Run:
    """The network that the client sent for it, in fp32, or a product of matrices."""
    if job.anchor is not None:
        return prepared(runtime, job.anchor.content, job.anchor.shape, Wanted(wanted.device, "fp32", wanted.threads))
    matrix = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32)

    def multiply() -> object:
        product = matrix
        for _ in range(20):
            product = np.tanh(product @ matrix)
        return product

    return multiply
