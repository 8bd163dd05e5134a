import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from few_operators import FEW

from nas.errors import MeasurementError
from nas.predictors.export_pool import ExportPool
from nas.predictors.export_worker import answer, job_of
from nas.predictors.target import Target

ORT = Target.parse("cpu:onnxruntime")
MEMBERS = [FEW.sample(random.Random(index)) for index in range(3)]
PARENT = """
import time
from nas.predictors.export_pool import ExportPool
from nas.predictors.target import Target
with ExportPool(Target.parse("cpu:onnxruntime"), 10, 3, workers=2) as pool:
    process = pool._process()
    print(process.pid, flush=True)
    time.sleep(100)
"""


def output(path, member):
    session = onnxruntime.InferenceSession(str(path))
    image = np.zeros((1, 3, member.resolution, member.resolution), np.float32)
    return session.run(None, {session.get_inputs()[0].name: image})[0]


def test_every_network_has_a_file_that_runs_until_the_pool_ends_also_after_a_process_died():
    with ExportPool(ORT, 7, 3, workers=2) as pool:
        files = pool.files(MEMBERS)
        assert files.keys() == {item.digest for item in MEMBERS}
        assert all(output(files[item.digest], item).shape == (1, 7) for item in MEMBERS)
        os.kill(pool._started[0].pid, signal.SIGKILL)
        again = pool.files(MEMBERS)
        assert len(again) == len(MEMBERS) - 1
        assert len(pool.files(MEMBERS)) == len(MEMBERS)
        started = len(pool._started)
        assert pool.files(MEMBERS[:1]).keys() == {MEMBERS[0].digest}  # by a process that is there
        assert len(pool._started) == started
    assert not any(path.exists() for path in files.values())
    assert all(process.poll() is not None for process in pool._started)


def test_no_process_is_started_where_none_is_needed():
    for target, members, workers in ((Target(), MEMBERS, 2), (ORT, MEMBERS[:1], 2), (ORT, MEMBERS, 1)):
        with ExportPool(target, 10, 3, workers) as pool:
            assert pool.files(members) == {}
            assert not pool._started


def test_what_cannot_be_exported_is_told_in_one_line_and_the_rest_is_exported(tmp_path):
    with ExportPool(ORT, -1, 3, workers=2) as pool:
        found = pool.files(MEMBERS[:2])
    assert all(isinstance(item, MeasurementError) and "\n" not in str(item) for item in found.values())
    assert len(found) == 2
    told = answer(job_of(MEMBERS[0], ORT, -1, 3, tmp_path))
    assert told.keys() == {"error"}
    assert Path(answer(job_of(MEMBERS[0], ORT, 10, 3, tmp_path))["path"]).is_file()


def test_a_process_ends_with_the_one_that_started_it():
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and alive(child):
        time.sleep(0.1)
    assert not alive(child)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
