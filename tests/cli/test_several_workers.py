"""Training and ranking on several processes: `torchrun`, Ray Train and Ray Tune, from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

SIZES = ("--epochs", 1, "--train-images", 64, "--validation-images", 40, "--batch", 16, "--threads", 1)


@pytest.fixture
def level(mini, tmp_path):
    """The small space without batch norms, which notice how a batch is shared out."""
    path = tmp_path / "level.yaml"
    path.write_text(mini.read_text().replace("norms: [layer, batch]", "norms: [layer]"))
    return path


def checkpoint(run):
    return load_file(run / "supernet" / "checkpoint.safetensors")


def same(first, second):
    weights = [name for name in first if name.startswith("weight/")]
    assert weights
    for name in weights:
        torch.testing.assert_close(first[name], second[name], rtol=1e-3, atol=2e-4)


def test_two_processes_of_torchrun_train_the_supernet_of_one(nas, level, tmp_path):
    arguments = ("train", "--space", level, *SIZES)
    assert nas(*arguments, "--out", tmp_path / "one").returncode == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "nas"]
    command = [*launcher, *map(str, arguments), "--out", str(tmp_path / "two"), "--json"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in json.loads(done.stdout)["history"]] == [1]
    same(checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two"))


@pytest.mark.thorough
def test_two_ray_workers_train_the_supernet_of_one_and_rank_it_as_one_would(nas, level, start, tmp_path):
    arguments = ("train", "--space", level, *SIZES)
    assert nas(*arguments, "--out", tmp_path / "one").returncode == 0
    process = start(*arguments, "--ray", "local", "--workers", 2, "--out", tmp_path / "two")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "on validation images" in out
    same(checkpoint(tmp_path / "one"), checkpoint(tmp_path / "two"))

    shutil.copytree(tmp_path / "two", tmp_path / "alone")
    probing = ("--probes", 4, "--epochs", 1, "--threads", 1, "--json")
    process = start("rank", tmp_path / "two", *probing, "--ray", "local", "--workers", 2)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert json.loads(out) == json.loads(nas("rank", tmp_path / "alone", *probing).stdout)


@pytest.mark.thorough
def test_a_ranking_on_ray_stopped_by_hand_is_gone_on_with(start, trained, tmp_path):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    probing = ("--probes", 4, "--epochs", 2, "--threads", 1, "--ray", "local", "--workers", 1, "--json")
    process = start("rank", run, *probing)
    until = time.monotonic() + 200
    while not list((run / "ranking").glob("probes/*/*.json")) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "stopped; what was trained is kept, the same command goes on with it" in err
    assert "Traceback" not in err
    process = start("rank", run, *probing)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert len(json.loads(out)["probes"]) == 4


def descendants(pid, words):
    """The processes below one whose command line has these words."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], check=True, capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    parents = {int(row[0]): int(row[1]) for row in rows}

    def below(each):
        while each and each != pid:
            each = parents.get(each, 0)
        return each == pid

    return [int(row[0]) for row in rows if words in row[2] and below(int(row[0]))]


@pytest.mark.thorough
def test_a_training_whose_worker_is_killed_goes_on_to_the_same_weights(start, level, tmp_path):
    arguments = ("train", "--space", level, *SIZES, "--epochs", 12, "--ray", "local", "--workers", 2)
    assert start(*arguments, "--out", tmp_path / "whole").wait(timeout=300) == 0
    process = start(*arguments, "--out", tmp_path / "hit")
    until, saved = time.monotonic() + 200, tmp_path / "hit" / "supernet" / "checkpoint.safetensors"
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.05)
    workers = descendants(process.pid, "RayTrainWorker")
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "hit"))
