"""`nas train`, `nas rank`, `nas search --supernet`: one supernet trained, ranked, searched; stopped anywhere it goes on."""

import json
import shutil
import signal
import time

import pytest
from safetensors.torch import load_file

EPOCHS = 2
USAGE = {
    "strategy": (["--strategy", "sandwhich"], "unknown training strategy 'sandwhich'. Did you mean 'sandwich'?"),
    "augmentation": (["--augment", "mixupp"], "unknown augmentation 'mixupp'. Did you mean 'mixup'?"),
    "field": (["--set", "emma=0.9"], "unknown field of the recipe 'emma'. Did you mean 'ema'?"),
    "no value": (["--set", "ema"], "--set ema gives no value; write --set ema=VALUE"),
    "number": (["--set", "ema=much"], "ema must be a number, got 'much'"),
    "range": (["--set", "ema=2"], "ema of the training must lie between 0 and 1, got 2.0"),
    "truth": (["--set", "checkpointing=maybe"], "checkpointing is true or false, got 'maybe'"),
    "precision": (["--set", "precision=fp8"], "precision of the training is one of fp32, bf16, got 'fp8'"),
    "device": (["--device", "gpu"], "PyTorch knows no device 'gpu': write cpu, cuda"),
    "missing device": (["--device", "cuda:77"], "there is no device 'cuda:77'"),
    "memory format": (
        ["--memory-format", "nchw"],
        "memory_format of a training is one of auto, channels_last, contiguous, got 'nchw'",
    ),
    "teacher": (["--teacher", "tim:resnet18"], "unknown teacher 'tim'. Did you mean 'timm'?"),
    "init": (["--init", "tim:resnet18"], "unknown published network 'tim'. Did you mean 'timm'?"),
    "around": (["--space", "around:convnxt_t"], "unknown catalogue backbone 'convnxt_t'. Did you mean 'convnext_t'?"),
    "overview": (["--space", "around:overlock_t"], "no space lies around this backbone: it has an overview branch"),
    "images": (["--train-images", "5"], "5 images of data 'digits' cannot show its 10 classes"),
    "batch": (["--batch", "2", "--strategy", "split_batch"], "raise the batch to at least 4"),
    "workers alone": (["--workers", "2"], "2 workers need Ray: add --ray local"),
}


def test_training_says_what_it_will_cost_and_what_it_reached(trained):
    printed, said = json.loads((trained / "stdout").read_text()), (trained / "stderr").read_text()
    assert f"{EPOCHS} epochs take about" in said
    assert [row["epoch"] for row in printed["history"]] == [1, 2]
    assert 0.0 <= printed["history"][-1]["smallest"] <= 1.0
    assert printed["rollbacks"] == []


@pytest.mark.parametrize("case", USAGE)
def test_bad_options_end_in_one_line_and_leave_nothing(nas, fails, tmp_path, case):
    arguments, words = USAGE[case]
    assert words in fails(nas("train", *arguments), 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strategy", ["uniform", "fair", "conflict", "split_batch", "nested", "shrinking", "complexity"])
def test_every_strategy_trains_from_the_command_line(nas, mini, tmp_path, strategy):
    data = ("--train-images", 40, "--validation-images", 20, "--epochs", 1, "--threads", 1, "--out", tmp_path / "run")
    result = nas("train", "--space", mini, "--strategy", strategy, *data)
    assert result.returncode == 0, result.stderr
    assert "on validation images" in result.stdout


def test_a_folder_with_a_training_takes_no_other_and_is_left_whole(nas, fails, trained, mini, tmp_path):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    assert "holds a run already" in fails(nas("train", "--space", mini, "--epochs", 1, "--out", run), 2)
    assert nas("train", "--resume", run).returncode == 0
    assert "leave --epochs away" in fails(nas("train", "--resume", run, "--epochs", 9), 2)


def test_the_strategies_are_listed_with_their_sources(nas):
    found = json.loads(nas("train", "--strategies", "--json").stdout)
    assert {"uniform", "fair", "sandwich", "alpha", "conflict", "split_batch", "nested", "shrinking", "complexity"} <= set(
        found
    )
    assert all("20" in source for source in found.values())


def test_a_training_killed_at_any_moment_resumes_to_the_same_weights(nas, start, mini, tmp_path):
    arguments = ("train", "--space", mini, "--epochs", 4, "--train-images", 200, "--validation-images", 100, "--threads", 1)
    assert nas(*arguments, "--out", tmp_path / "whole").returncode == 0
    process = start(*arguments, "--out", tmp_path / "killed")
    checkpoint = tmp_path / "killed" / "supernet" / "checkpoint.safetensors"
    until = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert nas("train", "--resume", tmp_path / "killed").returncode == 0
    whole, resumed = (load_file(tmp_path / name / "supernet" / "checkpoint.safetensors") for name in ("whole", "killed"))
    assert all((tensor == resumed[name]).all() for name, tensor in whole.items())


def test_a_ranking_compares_the_supernet_with_training_alone(nas, fails, trained, tmp_path):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    result = nas("rank", run, "--probes", 8, "--epochs", 1, "--threads", 1, "--json")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert {"supernet", "params", "macs", "synflow", "naswot", "grad_norm"} <= set(found["agreements"])
    for one in (*found["agreements"].values(), *found["similar_macs"].values()):
        assert -1.0 <= one["tau_low"] <= one["tau_high"] <= 1.0
    assert found["tau"] == found["agreements"]["supernet"]["tau"]
    assert len(found["probes"]) == 8
    assert {bias["name"] for bias in found["biases"]} == {"pooling", "depthwise_conv", "linear_attention"}
    assert {bias["name"] for bias in found["family_biases"]} == {"pooling", "convolution", "attention"}
    page = (run / "ranking" / "ranking.html").read_text()
    assert "<svg" in page
    assert "Favoured and punished operators" in page
    assert "compile of a training is one of auto, on, off" in fails(nas("rank", run, "--compile", "always"), 2)
    way = ("--memory-format", "contiguous", "--compile", "off")
    again = nas("rank", run, "--probes", 8, "--epochs", 1, "--threads", 1, *way, "--json")
    assert "0 of 8 probes are to be trained" in again.stderr
    assert json.loads(again.stdout) == found
    other = nas("rank", run, "--probes", 8, "--epochs", 2, "--threads", 1)
    assert other.returncode == 0
    assert "8 of 8 probes are to be trained" in other.stderr
    beside = shutil.copytree(trained / "run", tmp_path / "beside")
    shared = nas("rank", beside, "--probes", 8, "--epochs", 1, "--threads", 1, "--probes-of", run, "--json")
    assert "0 of 8 probes are to be trained" in shared.stderr
    assert json.loads(shared.stdout) == found


def test_an_untrained_supernet_is_not_ranked(nas, fails, trained, tmp_path):
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / "supernet" / "checkpoint.safetensors").unlink()
    assert "has 0 of 2 epochs behind it: `nas train --resume" in fails(nas("rank", run), 1)


def test_a_search_takes_the_supernet_of_another_run(nas, trained, table, tmp_path):
    arguments = ("--latency-table", table, "--budget-latency", "50ms", "--accept-noise", "--threads", 1)
    numbers = ("--evaluations", 6, "--finetune-epochs", 0)
    result = nas("search", "--supernet", trained / "run", *arguments, *numbers, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    mine, theirs = (folder / "supernet" / "checkpoint.safetensors" for folder in (tmp_path / "run", trained / "run"))
    assert mine.read_bytes() == theirs.read_bytes()


def test_a_supernet_brings_its_space_and_data(nas, fails, trained, mini):
    line = fails(nas("search", "--supernet", trained / "run", "--space", mini, "--epochs", 3), 2)
    assert "--supernet takes them from its run; leave --space, --epochs away" in line


def test_classes_without_images_are_told_and_the_training_goes_on(nas, mini, tmp_path, monkeypatch):
    import datasets
    from PIL import Image

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee", "cat"])})
    images = [Image.new("RGB", (8, 8), (number, 250 * (number % 2), 0)) for number in range(40)]
    rows = {"image": images, "label": [2 * (number % 2) for number in range(40)]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "insects.parquet")
    numbers = ("--epochs", 1, "--batch", 8, "--threads", 1, "--memory-format", "contiguous")
    result = nas(
        "train", "--space", mini, "--data", f"parquet:{tmp_path / 'insects.parquet'}", *numbers, "--out", tmp_path / "run"
    )
    assert result.returncode == 0, result.stderr
    assert "1 of the 3 classes of data" in result.stderr
    assert "have no training images ('bee')" in result.stderr
    weights = load_file(tmp_path / "run" / "supernet" / "checkpoint.safetensors")
    assert weights["weight/store.head/linear/bias"].shape == (3,)
    assert "memory_format: contiguous" in (tmp_path / "run" / "config.yaml").read_text()
