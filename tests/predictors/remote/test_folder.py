import threading

import pytest

from nas.errors import FileError, MeasurementError
from nas.predictors.remote.agent.desk import description
from nas.predictors.remote.agent.lease import FileLease
from nas.predictors.remote.agent.main import ABOUT, AGENT_LEASE, CLIENT_LEASE
from nas.predictors.remote.agent.spool import Spool, write_whole
from nas.predictors.remote.agent.wire import seal
from nas.predictors.remote.agent.worker import Worker
from nas.predictors.remote.places import folder as folder_module
from nas.predictors.remote.places.folder import Folder, FolderClient


@pytest.fixture
def shared(tmp_path, kit):
    """A folder with an agent on it, as `nas agent --folder` serves it."""
    worker = Worker(Spool(tmp_path, kit.secret))
    write_whole(tmp_path / ABOUT, seal(kit.secret, b"about", description()))
    lease = FileLease(tmp_path / AGENT_LEASE, "agent")
    assert lease.try_acquire() is None
    with lease.kept(), kit.working(worker):
        yield tmp_path


def test_jobs_and_results_pass_through_a_folder_and_leave_nothing(shared, kit):
    client = FolderClient(shared, kit.secret)
    assert "toy" in client.describe()["runtimes"]
    assert client.run(kit.job(1, "sleep 0.001"))[0]["state"] == "done"
    assert "operator 'gelu'" in client.run(kit.job(2, "gelu"))[0]["error"]
    left = {str(path.relative_to(shared)) for path in shared.rglob("*") if path.is_file()}
    assert left == {ABOUT, AGENT_LEASE}


def test_two_clients_of_a_folder_take_turns(shared, kit):
    found, running = [], threading.Semaphore(1)

    class Watched(FolderClient):
        def _wait(self, spool, job, lease):
            assert running.acquire(blocking=False), "two clients at once"
            try:
                return super()._wait(spool, job, lease)
            finally:
                running.release()

    def ask(number):
        found.append(Watched(shared, kit.secret).run(kit.job(number, "sleep 0.001"))[0]["state"])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["done"] * 3


def test_another_secret_is_told_by_client_and_agent(shared, kit):
    client = FolderClient(shared, b"quite another secret")
    with pytest.raises(MeasurementError, match="holds another secret"):
        client.describe()
    with pytest.raises(MeasurementError, match="sealed with another secret"):
        client.run(kit.job(1, "sleep 0.001"))
    assert FolderClient(shared, kit.secret).run(kit.job(2, "sleep 0.001"))[0]["state"] == "done"


def test_a_folder_without_an_agent_or_without_itself_is_told(tmp_path):
    with pytest.raises(MeasurementError, match="no agent has been started"):
        FolderClient(tmp_path, b"").describe()
    with pytest.raises(FileError, match="there is no folder"):
        Folder(str(tmp_path / "missing")).link()


def test_a_silent_agent_is_told_and_the_job_withdrawn(tmp_path, kit, monkeypatch):
    monkeypatch.setattr(folder_module, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(MeasurementError, match="has been silent"):
        FolderClient(tmp_path, kit.secret).run(kit.job(1, "sleep 0.001"))
    assert not any((tmp_path / "jobs").iterdir())
    assert not (tmp_path / CLIENT_LEASE).exists()
