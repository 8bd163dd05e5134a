"""Runs that start from others: what is history, what is only proposed, and that nothing is evaluated twice."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from nas.errors import FileError, UsageError
from nas.progress import Silent
from nas.results import origins as origins_module
from nas.results.config import SearchConfig
from nas.results.continuation import continued
from nas.results.fronts import joint_front
from nas.results.origins import SEEDS, Origins, identity, weights_digest
from nas.results.run import Run
from nas.search.archive import Archive
from nas.search.types import COMPLETE, FAILED, SCREENED, Budgets, Problem, Trial
from nas.search_spaces.presets import load_space
from nas.search_spaces.space import SearchSpace
from nas.supernet.checkpoint import FORMAT, VERSION

SPACE = SearchSpace.from_mapping({"depths": [[1, 2], [1, 2], [1]], "mixers": ["pooling", "depthwise_conv"]}, load_space("tiny"))
OTHER = SearchSpace.from_mapping({"mixers": ["pooling", "depthwise_conv", "linear_attention"]}, SPACE)


def metrics(accuracy, latency=0.001):
    return {"accuracy": accuracy, "loss": 1.0, "latency": latency, "latency_upper": 1.1 * latency, "params": 5.0, "macs": 7.0}


def members(count, seed, space=SPACE):
    rng = random.Random(seed)
    found = {}
    while len(found) < count:
        member = space.sample(rng)
        found[member.digest] = member
    return list(found.values())


@pytest.fixture
def make(tmp_path):
    """`make(name, trials, ...)`: the folder of a run with these trials and a supernet of these weights."""

    def run(name, trials, weights=1.0, epochs=None, **fields):
        config = SearchConfig(**{"space": SPACE.to_mapping(), "data_fingerprint": "ab" * 8, **fields})
        found = Run(tmp_path / name)
        config.save(found.config_path)
        found.checkpoint.parent.mkdir()
        tensors = {"weight/a": torch.full((2, 3), weights), "optimizer/exp_avg/a": torch.rand(3)}
        progress = json.dumps({"history": [{}] * (config.training.epochs if epochs is None else epochs)})
        save_file(
            tensors, str(found.checkpoint), {"format": FORMAT, "version": str(VERSION), "identity": "", "progress": progress}
        )
        with Archive(found.journal, config.search_space(), config.objectives) as archive:
            for trial in trials:
                archive.add(trial)
        return found

    return run


def search_of(run, latency=0.002, budgets=None):
    """What `Origins` needs of a search in a run folder, its predictor a constant."""
    config = run.config()
    space = config.search_space()
    problem = Problem(space, lambda member: {"latency": latency, "latency_upper": latency}, Budgets(budgets or {}))
    return SimpleNamespace(
        folder=run, config=config, space=space, runnable_space=space, problem=problem, reporter=Silent(),
        archive=lambda: Archive(run.journal, space, config.objectives),
    )  # fmt: skip


def complete(architectures, **changes):
    return [Trial(n, a, COMPLETE, {**metrics(0.5 + n / 100), **changes}) for n, a in enumerate(architectures)]


def test_the_trials_of_the_same_supernet_become_history_each_once(make):
    known = members(6, 0)
    first = make("first", [*complete(known[:3]), Trial(3, known[3], FAILED, {}, "boom")])
    second = make("second", complete([known[1], known[4]]))
    run = make("run", [], origins=(str(first.path), str(second.path)))
    origins = Origins(search_of(run))
    origins.join()
    with run.archive() as archive:
        trials = archive.trials()
    assert [trial.architecture for trial in trials] == [*known[:4], known[4]]
    assert [trial.number for trial in trials] == list(range(5))
    assert {trial.origin for trial in trials} == {str(first.path), str(second.path)}
    assert trials[1].metrics == {**metrics(0.51), "latency": 0.002, "latency_upper": 0.002}, "latencies by this run's predictor"
    assert trials[3].error == "boom"
    assert (origins.taken, origins.seeds) == (5, [])


def test_a_run_that_was_joined_is_needed_no_longer_and_a_join_cut_short_goes_on(make):
    first = make("first", complete(members(4, 0)))
    run = make("run", [], origins=(str(first.path),))
    Origins(search_of(run)).join()
    whole = run.journal.read_bytes()
    run.origins.unlink()
    run.journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
    Origins(search_of(run)).join()
    with run.archive() as archive:
        assert len(archive) == 4
    shutil.rmtree(first.path)
    again = Origins(search_of(run))
    again.require()
    again.join()
    assert again.taken == 4


@pytest.mark.parametrize("difference", ["weights", "data_fingerprint", "threads", "space", "adapt"])
def test_trials_that_mean_something_else_are_only_proposed(make, difference):
    known = members(30, 1)
    fields = {"weights": {"weights": 2.0}, "space": {"space": OTHER.to_mapping()}}.get(difference, {difference: "cd" * 8})
    fields = {difference: 3} if difference in ("threads", "adapt") else fields
    first = make("first", complete(known))
    run = make("run", [], origins=(str(first.path),), **fields)
    origins = Origins(search_of(run))
    origins.join()
    with run.archive() as archive:
        assert len(archive) == origins.taken == 0
    assert origins.seeds == list(reversed(known))[:SEEDS], "the best first"
    again = Origins(search_of(run))
    again.join()
    assert again.seeds == origins.seeds


def test_a_stranger_is_proposed_as_the_member_with_the_same_choices(make):
    theirs = [member for member in members(40, 2, OTHER) if not SPACE.contains(member)][:3]
    first = make("first", complete(theirs), space=OTHER.to_mapping())
    run = make("run", [], origins=(str(first.path),))
    origins = Origins(search_of(run))
    origins.join()
    assert origins.seeds
    assert all(SPACE.contains(seed) for seed in origins.seeds)
    best = OTHER.encode(theirs[-1])
    found = SPACE.encode(origins.seeds[0])
    assert all(found[name] == best[name] for name in ("stem", "depth.0") if name in best)


def test_cheap_scores_are_history_only_under_the_same_screening(make):
    known = members(4, 3)
    trials = [*complete(known[:2]), Trial(2, known[2], SCREENED, {**metrics(0.9), "screening": 0.9})]
    first = make("first", trials, screen=64)
    for screen, by, taken in ((64, "loss", 3), (32, "loss", 2), (64, "accuracy", 2), (64, "naswot", 2), (None, "loss", 2)):
        run = make(f"run-{screen}-{by}", [], origins=(str(first.path),), screen=screen, screen_by=by)
        origins = Origins(search_of(run))
        origins.join()
        assert origins.taken == taken


def test_an_identity_follows_the_weights_and_not_the_state_of_the_optimiser(make):
    first, second = make("first", []), make("second", [])
    assert first.checkpoint.read_bytes() != second.checkpoint.read_bytes()
    assert identity(first) == identity(second)
    assert identity(make("third", [], weights=1.5)) != identity(first)
    first.checkpoint.write_bytes(first.checkpoint.read_bytes()[:50])
    with pytest.raises(FileError, match="is damaged"):
        weights_digest(first.checkpoint)


def test_a_run_started_from_another_reuses_what_its_changes_leave_valid(make):
    first = make("first", [], budgets={"latency": 0.005}, storage="sqlite:///x.db")
    (first.path / "latency").mkdir()
    first.latency_table.write_text("{}")
    same = continued(first, {"budgets": {"latency": 0.004}, "evaluations": 7, "target": "cpu"})
    assert (same.supernet, same.budgets, same.evaluations) == (str(first.path), {"latency": 0.004}, 7)
    assert same.latency_tables == {"latency": str(first.latency_table)}
    assert (same.storage, same.space) == (None, first.config().space)
    moved = continued(first, {"target": "cpu:onnxruntime", "budgets": {"latency@cpu:eager": 0.004}})
    assert moved.latency_tables == {"latency@cpu:eager,threads=1,batch=1,precision=fp32": str(first.latency_table)}
    for change in ({"space": OTHER.to_mapping()}, {"data": "folder:x"}, {"training": replace(same.training, epochs=99)}):
        found = continued(first, change)
        assert (found.supernet, found.latency_tables) == (None, {})


def test_a_supernet_is_taken_over_only_when_its_training_is_finished(make):
    assert continued(make("begun", [], epochs=3), {}).supernet is None
    assert continued(make("lent", [], epochs=0, supernet="runs/net"), {}).supernet == "runs/net"
    untrained = make("untrained", [])
    untrained.checkpoint.unlink()
    assert continued(untrained, {"evaluations": 7}).supernet is None


def test_a_run_without_candidates_is_read_and_nothing_is_written(make):
    first, second = make("first", []), make("second", complete(members(2, 0)))
    first.journal.unlink()
    assert len(joint_front([first, second]).candidates) == 2
    origins = Origins(search_of(make("run", [], origins=(str(first.path),))))
    origins.require()
    origins.join()
    assert (origins.taken, origins.seeds) == (0, [])
    assert not first.journal.exists()


def test_on_a_shared_storage_what_another_process_has_in_hand_is_not_taken_over_twice(make, tmp_path, monkeypatch):
    known, url = members(3, 7), f"sqlite:///{tmp_path / 'x.db'}"
    first = make("first", complete(known))
    theirs = Archive(url, SPACE)
    assert theirs.reserve(1, members(9, 8)[8])

    class Late(Archive):
        """Another process is quicker after the first look."""

        def elsewhere(self):
            found = super().elsewhere()
            theirs.reserve(0, known[0])
            return found

    search = search_of(make("run", [], origins=(str(first.path),)))
    search.archive = lambda: Late(url, SPACE)
    monkeypatch.setattr(origins_module.time, "sleep", lambda _: theirs.add(complete(known)[0]))
    Origins(search).join()
    with Archive(url, SPACE) as archive:
        trials = archive.trials()
    assert {trial.number: trial.architecture for trial in trials} == {0: known[0], 2: known[1], 3: known[2]}
    assert [trial.origin for trial in trials] == ["", str(first.path), str(first.path)], "the first is the other's"


def test_runs_are_read_together_and_an_architecture_taken_over_counts_once(make):
    known = members(5, 4)
    first = make("first", complete(known[:3]), budgets={"latency": 0.005})
    second = make("second", complete(known[1:]), budgets={"latency": 0.009})
    both = joint_front([first, second])
    assert (len(both.candidates), both.supernets, both.budgets.limits) == (5, 1, {"latency": 0.005})
    assert [one.trial.metrics["accuracy"] for one in both.front()] == [0.53]
    assert both.front()[0].run == str(second.path)
    assert "run" in both.lines()[0]
    assert both.to_mapping()["front"][0]["digest"] == known[4].digest
    other = make("other", complete(known), weights=3.0)
    assert joint_front([first, other]).supernets == 2
    assert len(joint_front([first, other]).candidates) == 8


def test_a_latency_means_the_same_target_in_all_runs(make):
    first = make("first", complete(members(2, 5)))
    second = make("second", complete(members(2, 6)), target="cpu:onnxruntime")
    with pytest.raises(UsageError, match="knows no latency of its candidates; leave it out"):
        joint_front([first, second])
    assert len(joint_front([first, second], ["accuracy", "macs"], {"params": 6.0}).candidates) == 4
    assert joint_front([first, second], ["accuracy", "macs"], {"params": 4.0}).front() == []
