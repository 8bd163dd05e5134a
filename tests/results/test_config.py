"""What a request may share a storage with, and what it takes where it names nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from known_machine import SPACE

import nas
from nas.errors import FileError, UsageError
from nas.results.config import SearchConfig
from nas.results.pipeline import SearchRun
from nas.results.run import Run
from nas.search import storage
from nas.supernet.checkpoint import save_checkpoint

CONFIG = SearchConfig(space=SPACE.to_mapping(), budgets={"latency": 0.005}, threads=1)
OTHERS = {
    "target": {"target": "cpu:onnxruntime"},
    "another target": {"objectives": ("accuracy", "latency@cpu:onnxruntime")},
    "budgets": {"budgets": {"latency": 0.004}},
    "weights": {"supernet_digest": "ab"},
}


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_searches_share_a_storage_only_with_the_same_targets_budgets_and_supernet(changes):
    shared = replace(CONFIG, storage="sqlite:///x.db")
    assert shared.identity() == replace(shared, strategy="random", evaluations=7).identity()
    assert shared.identity() != replace(shared, **changes).identity()
    assert CONFIG.identity() == replace(CONFIG, **changes).identity(), "a journal is one run's own"


def test_how_networks_compute_makes_no_other_run():
    training = replace(CONFIG.training, memory_format="contiguous")
    other = replace(CONFIG, training=training, finetuning=replace(CONFIG.finetuning, compile="on"))
    assert (other, other.identity()) == (CONFIG, CONFIG.identity())
    assert other.to_mapping()["training"]["memory_format"] == "contiguous"
    assert other.to_mapping()["finetuning"]["compile"] == "on"


def test_a_storage_is_found_again_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    replace(CONFIG, storage="sqlite:///x.db").save(tmp_path / "config.yaml")
    monkeypatch.chdir("/")
    assert SearchConfig.load(tmp_path / "config.yaml").storage == f"sqlite:///{tmp_path / 'x.db'}"


def given(folder, weights):
    """The folder of a run whose supernet is trained, of these weights."""
    run = Run(folder)
    run.checkpoint.parent.mkdir(parents=True)
    CONFIG.save(run.config_path)
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, weights)
    save_checkpoint(run.checkpoint, layer, None, "", {"history": [{}] * CONFIG.training.epochs})
    return str(folder)


def test_a_storage_is_opened_again_by_the_same_request_and_refused_to_other_weights(tmp_path):
    nets = [given(tmp_path / name, weights) for name, weights in (("one", 1.0), ("same", 1.0), ("other", 2.0))]
    config = replace(CONFIG, storage=f"sqlite:///{tmp_path / 'x.db'}")
    for number, net in enumerate(nets[:2]):
        run = SearchRun(tmp_path / f"run-{number}", replace(config, supernet=net))
        run.start()
        run.archive().close()
        with Run.open(run.folder.path).archive() as archive:
            assert archive.trials() == []
    for other in (replace(config, supernet=nets[2]), replace(config, supernet=nets[0], budgets={"latency": 0.001})):
        with pytest.raises(FileError, match="holds the candidates of another run"):
            SearchRun(tmp_path / "other-run", other).start()
    assert not (tmp_path / "other-run").exists()


def test_cheap_scores_of_another_meaning_are_candidates_of_another_run():
    ways = [
        {},
        {"screen": 64},
        {"screen": 32},
        {"screen": 64, "screen_by": "accuracy"},
        {"screen": 64, "screen_by": "naswot"},
        {"screen": 64, "screen_by": "synflow"},
    ]
    assert len({replace(CONFIG, **way).identity() for way in ways}) == len(ways)
    assert replace(CONFIG, screen=64, promote=0.5).identity() == replace(CONFIG, screen=64).identity()


def test_several_objectives_are_followed_where_no_strategy_is_named(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("nas.results.api.SearchRun.run", lambda self: asked.append(self.config))
    nas.search(SPACE, out=tmp_path / "a")
    nas.search(SPACE, out=tmp_path / "b", objectives=("accuracy", "latency"))
    nas.search(SPACE, out=tmp_path / "c", objectives=("accuracy", "latency"), strategy="evolution")
    assert [config.strategy for config in asked] == ["evolution", "auto", "evolution"]
    for option in ({"promote": 0.5}, {"screen_by": "naswot"}):
        with pytest.raises(UsageError, match="none are screened"):
            nas.search(SPACE, out=tmp_path / "d", **option)


def test_a_request_keeps_no_password_of_its_storage(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_GIVEN", {})
    url = "postgresql://me:hunter2@host/x"
    config = replace(CONFIG, storage=url, command=f"nas search --storage={url} --seed 1")
    assert "hunter2" not in repr(config)
    assert (config.storage, config.command) == (
        "postgresql://me@host/x",
        "nas search --storage=postgresql://me@host/x --seed 1",
    )
    assert replace(config, seed=2).storage == config.storage
    config.save(tmp_path / "config.yaml")
    assert SearchConfig.load(tmp_path / "config.yaml") == config
    (tmp_path / "before.yaml").write_text((tmp_path / "config.yaml").read_text().replace("me@host", "me:hunter2@host"))
    assert SearchConfig.load(tmp_path / "before.yaml") == config


def test_scores_after_other_steps_are_those_of_another_run():
    ways = [{}, {"adapt": 40}, {"adapt": 41}, {"adapt": 40, "adapt_rate": 1e-3}, {"adapt": 40, "adapt_keep": 0.5}]
    assert len({replace(CONFIG, **way).identity() for way in ways}) == len(ways)
    assert replace(CONFIG, adapt_rate=1e-3).identity() == CONFIG.identity(), "a rate of no steps means nothing"
    taught = replace(CONFIG, adapt=40, training=replace(CONFIG.training, batch=8, augment="", seed=5))
    assert (taught.adaptation().batch, taught.adaptation().augment, taught.adaptation().seed) == (8, "", 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapt": -1}, "0 steps or more, got -1"),
        ({"adapt": 1, "adapt_rate": 0.0}, "of the adaptation must be above 0, got 0.0"),
        ({"adapt": 1, "adapt_rate": float("nan")}, "of the adaptation must be above 0, got nan"),
        ({"adapt": 0.5}, "type int"),
        ({"adapt": 1, "adapt_keep": 1.5}, "keeps is from 0 to 1, got 1.5"),
        ({"adapt": 1, "adapt_keep": float("nan")}, "keeps is from 0 to 1, got nan"),
    ],
)
def test_an_adaptation_that_cannot_be_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        replace(CONFIG, **changes)


def test_a_rate_without_steps_is_refused():
    with pytest.raises(UsageError, match="adapt-rate is the learning rate of an adaptation, and there is none"):
        nas.search(SPACE, adapt_rate=1e-3)
