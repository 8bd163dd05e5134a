"""`nas train --init`: a supernet of the space around a backbone starts from its weights, once."""

import contextlib

import pytest
from safetensors.torch import load_file, save_file
from timm_models import timm

from nas.progress import Silent
from nas.results.pipeline import SearchRun
from nas.results.run import Run


class StopsAtTheLastStep(Silent):
    """Stops a training when all of its epochs but the last are saved."""

    @contextlib.contextmanager
    def phase(self, title):
        def step(done, total, words):
            if done == total:
                raise KeyboardInterrupt

        yield step


def test_a_training_starts_once_from_published_weights(nas, tmp_path):
    space, weights, whole, stopped = (tmp_path / name for name in ("small.yaml", "weights.safetensors", "whole", "stopped"))
    space.write_text("preset: around:mobilevit_xxs\nresolutions: [64]\n")
    save_file(timm.create_model("mobilevit_xxs", num_classes=7).state_dict(), weights)
    recipe = ("--init", f"timm:mobilevit_xxs={weights.name}", "--epochs", 2, "--batch", 20, "--strategy", "uniform")
    data = ("--train-images", 20, "--validation-images", 10, "--threads", 1)
    result = nas("train", "--space", space, *recipe, *data, "--out", whole)
    assert result.returncode == 0, result.stderr
    assert f"starts from timm:mobilevit_xxs={weights}; the classifier is new, for 10 classes" in result.stderr
    config = Run.open(whole).config()
    assert (config.training.init, config.space["anchor"]["resolution"]) == (f"timm:mobilevit_xxs={weights}", 256)

    SearchRun(stopped, config).start()
    with pytest.raises(KeyboardInterrupt):
        SearchRun(stopped, config, StopsAtTheLastStep()).train()
    weights.unlink()
    assert nas("train", "--resume", stopped).returncode == 0
    one, other = (load_file(folder / "supernet" / "checkpoint.safetensors") for folder in (whole, stopped))
    assert all((tensor == other[name]).all() for name, tensor in one.items())


def test_weights_that_cannot_be_read_leave_nothing(nas, fails, tmp_path):
    line = fails(nas("train", "--init", "catalog:convnext_t=nowhere.safetensors", "--out", tmp_path / "run"), 1)
    assert "cannot read the published network's weights" in line
    assert list(tmp_path.iterdir()) == []
