"""Budgets and objectives: one name for one thing, and one clear line for what cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileError, UnknownNameError, UsageError
from nas.predictors.target import Target
from nas.quantities import format_bytes, parse_bytes
from nas.results.config import SearchConfig
from nas.results.metrics import budgets_told, canonical_budgets, canonical_objectives, memory, of_target, split_objectives
from nas.search.types import Budgets
from nas.search_spaces.presets import load_space

CPU = Target.parse("cpu")
TARGETS = ("cpu", "cpu:onnxruntime", "cpu:eager,threads=2", "cpu:onnxruntime,threads=2,batch=4")


@pytest.fixture(scope="module")
def config():
    return SearchConfig(space=load_space("tiny").to_mapping())


def test_one_target_has_one_name_however_it_is_written():
    found = canonical_budgets({"latency@cpu:onnxruntime": 0.002, "latency@ cpu:eager,threads=1": 0.005, "params": 1e6}, CPU)
    other = "latency@cpu:onnxruntime,threads=1,batch=1,precision=fp32"
    assert found == {other: 0.002, "latency": 0.005, "params": 1e6}
    assert canonical_objectives(["accuracy", "latency@cpu"], CPU) == ("accuracy", "latency")
    found = canonical_budgets({"energy": 0.1, "energy@cpu:onnxruntime": 0.2}, CPU)
    assert found == {"energy": 0.1, "energy@cpu:onnxruntime,threads=1,batch=1,precision=fp32": 0.2}


def test_the_energy_of_a_run_on_an_agent_is_refused_under_its_plain_name_too():
    with pytest.raises(UsageError, match="agents count no energy"):
        canonical_objectives(["accuracy", "energy"], Target.parse("cpu:onnxruntime@folder:/x"))


def test_what_is_of_a_target_is_known_by_its_name():
    names = ("latency", "latency_upper", "energy", "energy@cpu", "energy_upper", f"latency@{CPU}_upper")
    assert all(of_target(name) for name in names)
    assert not any(of_target(name) for name in ("accuracy", "params", "macs", "memory", "loss"))


def test_budgets_are_told_with_their_targets():
    told = budgets_told({"energy": 5e-3, "energy@cuda": 2e-3, "latency": 1e-3, "params": 1e6}, "cpu")
    assert told == "energy 5 mJ on cpu, energy 2 mJ on cuda, latency 1 ms on cpu, params 1M"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"latency": 0.005, "latency@cpu:eager": 0.004}, f"latency on {CPU} has two budgets, 5 ms and 4 ms"),
        ({"latency@cpu,batch=2": 0.001, "latency@cpu:eager,batch=2": 0.002}, "has two budgets, 1 ms and 2 ms; keep one"),
        ({"energy": 1.0, "energy@cpu": 2.0}, f"energy on {CPU} has two budgets, 1 J and 2 J; keep one"),
        ({"energy@cpu@folder:/x": 1.0}, "budget energy: agents count no energy, and cpu:onnxruntime,threads=1"),
        ({"params@cpu": 1.0}, "only a latency or an energy has a target; write 'params'"),
        ({"latency@tpu": 1.0}, "device 'tpu' of a target is not one of"),
        ({"accuracy": 0.9}, "unknown budget 'accuracy'"),
        ({"param": 1.0}, "Did you mean 'params'?"),
    ],
)  # fmt: skip
def test_budgets_that_make_no_sense_are_refused(names, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        canonical_budgets(names, CPU)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["accuracy", "accuracy"], "'accuracy' is given twice"),
        (["accuracy", "latency", "latency@cpu"], "'latency' is given twice"),
        (["latency", "macs"], "leave out how good a network is; write accuracy first, e.g. accuracy,latency,macs"),
        ([], "leave out how good a network is"),
        (["accuracy", "flops"], "unknown objective 'flops'"),
        (["accuracy", "energy", "energy@cpu"], "objective 'energy' is given twice"),
    ],
)
def test_objectives_that_make_no_sense_are_refused(names, words):
    with pytest.raises(UsageError, match=re.escape(words)):
        canonical_objectives(names, CPU)


@given(st.lists(st.sampled_from(["accuracy", "macs", *(f"latency@{target}" for target in TARGETS)]), min_size=1))
def test_objectives_are_split_where_they_were_joined(names):
    assert split_objectives(",".join(names)) == names


@given(st.floats(1.0, 1e13))
def test_amounts_of_memory_are_read_as_they_are_written(number):
    assert parse_bytes(format_bytes(number).replace(" ", "")) == pytest.approx(number, rel=1e-3)


def test_a_run_names_every_target_that_it_must_measure(config):
    from dataclasses import replace

    found = replace(config, budgets={"latency@cpu:onnxruntime": 1.0}, objectives=("accuracy", "latency@cpu:eager,threads=2"))
    assert {metric: str(target) for metric, target in found.latencies().items()} == {
        "latency": str(CPU),
        "latency@cpu:onnxruntime,threads=1,batch=1,precision=fp32": "cpu:onnxruntime,threads=1,batch=1,precision=fp32",
        "latency@cpu:eager,threads=2,batch=1,precision=fp32": "cpu:eager,threads=2,batch=1,precision=fp32",
    }
    assert replace(found, target="cpu:onnxruntime").budgets == {"latency": 1.0}


def test_the_target_of_an_energy_is_measured_for_its_latency_too(config):
    from dataclasses import replace

    other = "cpu:onnxruntime,threads=1,batch=1,precision=fp32"
    found = replace(config, budgets={"energy@cpu:onnxruntime": 1.0}, objectives=("accuracy", "energy"))
    assert {metric: str(target) for metric, target in found.latencies().items()} == {
        "latency": str(CPU),
        f"latency@{other}": other,
    }
    assert found.energies() == {"latency": "energy", f"latency@{other}": f"energy@{other}"}
    assert config.energies() == {}


def test_a_request_survives_its_file_and_that_of_the_first_version_is_read(config, tmp_path):
    from dataclasses import replace

    found = replace(
        config, budgets={"latency": 0.1, "latency@cpu:onnxruntime": 0.2, "memory": 1e7}, objectives=("accuracy", "macs"),
        screen=64, screen_by="naswot", promote=0.5, origins=("a", "b"), latency_tables={"latency": "t.json"},
    )  # fmt: skip
    found.save(tmp_path / "config.yaml")
    assert SearchConfig.load(tmp_path / "config.yaml") == found
    text = (tmp_path / "config.yaml").read_text()
    old = text.replace("version: 2", "version: 1").replace("latency_tables:\n  latency: t.json\n", "latency_table: t.json\n")
    for name in ("screen: 64", "screen_by: naswot", "promote: 0.5"):
        old = old.replace(f"{name}\n", "")
    (tmp_path / "config.yaml").write_text(old.replace("origins:\n- a\n- b\n", ""))
    assert SearchConfig.load(tmp_path / "config.yaml") == replace(  # they were screened by accuracy, without a word
        found, screen=None, screen_by="accuracy", promote=0.25, origins=()
    )
    (tmp_path / "config.yaml").write_text(text.replace("version: 2", "version: 3"))
    with pytest.raises(FileError, match="no run configuration of this version"):
        SearchConfig.load(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("screen", 0, "screen must be at least 1"),
        ("promote", 0.0, "the share of candidates"),
        ("latency_tables", {"macs": "x"}, "is none of latency"),
    ],
)
def test_a_request_out_of_range_is_refused(config, field, value, words):
    from dataclasses import replace

    with pytest.raises(UsageError, match=words):
        replace(config, **{field: value})


def test_memory_grows_with_the_batch_and_shrinks_with_the_precision(mixed):
    one, four, half = (
        memory(mixed, Target.parse(f"cpu:eager,{rest}"), 10, 1) for rest in ("batch=1", "batch=4", "precision=bf16")
    )
    assert one < four < 4 * one
    assert half == one / 2


def test_the_broken_budgets_are_told_with_their_excess():
    budgets = Budgets({"latency": 0.005, "latency@cpu:onnxruntime": 0.002, "memory": 2.0**20, "params": 1e6})
    metrics = {"latency": 0.001, "latency_upper": 0.006, "latency@cpu:onnxruntime": 0.001, "memory": 2.0**21, "params": 1e6}
    assert budgets.excess(metrics) == "latency 6 ms over 5 ms (+20%), memory 2 MiB over 1 MiB (+100%)"
    assert str(budgets) == "latency 5 ms, latency@cpu:onnxruntime 2 ms, memory 1 MiB, params 1M"


def test_the_nearest_name_is_suggested():
    with pytest.raises(UnknownNameError, match="Did you mean 'memory'"):
        canonical_budgets({"memry": 1.0}, CPU)
