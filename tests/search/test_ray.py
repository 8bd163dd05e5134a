from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from nas.errors import NasError
from nas.search import strategy
from nas.search.archive import Archive
from nas.search.executors.base import WorkersLostError
from nas.search.executors.local import LocalExecutor
from nas.search.executors.ray import RayExecutor, WorkerDiedError
from nas.search.loop import run_search
from nas.search.ray_session import connect, require_room

pytestmark = [pytest.mark.ray, pytest.mark.slow]
ray = pytest.importorskip("ray")


class Fake:
    """Evaluates in a worker that cannot import the tests: the function travels by value."""

    def __init__(self, evaluate, seconds=0.0, deadly=""):
        self.evaluate, self.seconds, self.deadly = evaluate, seconds, deadly

    def __call__(self, text):
        time.sleep(self.seconds)
        if self.deadly and self.deadly in text:
            os._exit(1)
        if '"norm":"rms"' in text and self.deadly == "":
            raise RuntimeError("no rms here")
        return self.evaluate(text)


@pytest.fixture(autouse=True)
def by_value(fake):
    modules = [sys.modules[__name__], sys.modules[fake.evaluate.__module__]]
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    yield
    for module in modules:
        ray.cloudpickle.unregister_pickle_by_value(module)
    ray.shutdown()


def search(problem, path, executor, evaluations):
    with Archive(path, problem.space, problem.objectives) as archive:
        run_search(problem, strategy.create("evolution", problem, 1), archive, executor, evaluations=evaluations)
        return archive.trials()


def plain(trials):
    return [(t.number, t.architecture, t.error, {k: v for k, v in t.metrics.items() if k != "seconds"}) for t in trials]


def test_one_ray_worker_gives_the_archive_of_the_local_executor_and_a_killer_spares_the_others(problem, fake, tmp_path):
    here = search(problem, tmp_path / "local", LocalExecutor(Fake(fake.evaluate)), 20)
    with RayExecutor(Fake(fake.evaluate), "local", 1) as executor:
        there = search(problem, tmp_path / "ray", executor, 20)
    assert plain(there) == plain(here)
    assert {"RuntimeError: no rms here", None} == {trial.error for trial in there}
    assert not ray.is_initialized()

    killer, other = problem.space.smallest(), problem.space.largest()
    with RayExecutor(Fake(fake.evaluate, deadly=killer.to_json()), "local", 1) as executor:
        futures = [executor.submit(0, killer), executor.submit(1, other)]
        with pytest.raises(WorkerDiedError, match="died 3 times"):
            futures[0].result(timeout=60)
        assert futures[1].result(timeout=60) == fake.evaluate(other.to_json())


def test_a_node_lost_during_the_search_costs_no_trial_and_the_last_one_ends_it(problem, fake, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    monkeypatch.setattr("nas.search.executors.ray.RESTART_SECONDS", 3.0)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        extra = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        with RayExecutor(Fake(fake.evaluate, 0.08, "never"), cluster.address, 2) as executor:
            timer = threading.Timer(1.0, cluster.remove_node, args=(extra,))
            timer.start()
            trials = search(problem, tmp_path / "cluster", executor, 80)
            timer.join()
            assert len(ray.nodes()) == 2
            assert sum(node["Alive"] for node in ray.nodes()) == 1
            assert [trial.number for trial in trials] == list(range(80))
            assert len({trial.architecture for trial in trials}) == 80
            assert all(trial.complete for trial in trials)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_a_cluster_without_what_a_worker_needs_is_said_so(fake, monkeypatch):
    monkeypatch.setattr("nas.search.executors.ray.START_SECONDS", 2.0)
    with (
        pytest.raises(WorkersLostError, match="started no worker with num_cpus=1, resources="),
        RayExecutor(Fake(fake.evaluate), "local", 1, resources={"phone": 1.0}),
    ):
        pass


def test_machines_without_room_for_the_workers_are_told_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    monkeypatch.setattr("ray.nodes", lambda: machines)
    require_room("auto", 2, 4, 0.0)
    with pytest.raises(NasError, match="no room for 1 workers of 32 CPUs each: its machines have 8, 0 CPUs; lower --threads"):
        require_room("auto", 1, 32, 0.0)
    with pytest.raises(NasError, match="no room for 3 workers of 4 CPUs"):
        require_room("auto", 3, 4, 0.0)


def test_a_cluster_that_is_not_there_is_told() -> None:
    ray.shutdown()
    with pytest.raises(WorkersLostError, match="cannot reach Ray at 'auto'"):
        connect("auto", 1)
