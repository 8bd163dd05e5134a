"""The commands that look at things, each on its own and for machines."""

import json
import shutil

import pytest

from nas.predictors.latency_table import LatencyTable
from nas.search_spaces.architecture import Architecture
from nas.search_spaces.presets import PRESETS, load_space
from nas.search_spaces.registry import Kind
from nas.search_spaces.registry import operators as registered


def test_operators_lists_every_registered_operator(nas):
    found = nas("operators", "--json")
    names = {(item["kind"], item["name"]) for item in json.loads(found.stdout)}
    assert names == {(op.kind, op.name) for op in registered(None)}
    text = nas("operators").stdout
    assert all(name in text for _, name in names)


@pytest.mark.parametrize("kind", list(Kind))
def test_operators_can_be_limited_to_a_kind(nas, kind):
    found = json.loads(nas("operators", "--kind", kind.value, "--json").stdout)
    assert found
    assert {item["kind"] for item in found} == {kind.value}


def test_spaces_lists_the_presets(nas):
    found = nas("spaces", "--json")
    assert [item["name"] for item in json.loads(found.stdout)] == list(PRESETS)
    assert all(name in nas("spaces").stdout for name in PRESETS)


def test_spaces_shows_a_file_in_full(nas, mini):
    found = json.loads(nas("spaces", mini, "--json").stdout)
    space = load_space(mini)
    assert [item["size"] for item in found] == [float(space.size())]
    assert found[0]["widths"] == [[8], [16]]
    assert "widths: [[8], [16]]" in nas("spaces", mini).stdout


def test_describe_draws_a_random_architecture_and_repeats_it_with_the_same_seed(nas, mini, tmp_path):
    first = nas("describe", "random", "--space", mini, "--seed", 5, "--svg", "graph.svg", "--json")
    again = nas("describe", "random", "--space", mini, "--seed", 5, "--json")
    other = nas("describe", "random", "--space", mini, "--seed", 6, "--json")
    found = json.loads(first.stdout)
    assert first.stdout == again.stdout != other.stdout
    assert load_space(mini).contains(Architecture.from_mapping(found["architecture"]))
    assert (tmp_path / "graph.svg").read_text().lstrip().startswith(("<svg", "<?xml"))
    assert found["digest"] in nas("describe", "random", "--space", mini, "--seed", 5).stdout


@pytest.mark.slow
def test_describe_takes_a_run_its_winner_folder_and_the_file(nas, reference):
    winner = reference / "run" / "winner"
    found = [
        json.loads(nas("describe", path, "--json").stdout) for path in (reference / "run", winner, winner / "architecture.json")
    ]
    summary = json.loads((reference / "run" / "summary.json").read_text())
    assert [item["digest"] for item in found] == [summary["digest"]] * 3


@pytest.mark.slow
def test_profile_writes_the_table_and_says_how_good_the_predictor_is(table):
    made = LatencyTable.load(table)
    assert len(made.networks) == 14
    assert (made.num_classes, made.in_channels) == (10, 1)
    out, err = ((table.parent / name).read_text() for name in ("stdout", "stderr"))
    first, second, *_ = out.splitlines()  # a noisy machine is remarked on
    assert "14 networks" in first
    assert "4 held-out networks: mean error" in second
    assert "error:" not in err


@pytest.mark.slow
def test_profile_goes_on_with_a_table_and_measures_nothing_twice(nas, mini, table, tmp_path):
    shutil.copy(table, tmp_path / "table.json")
    before = LatencyTable.load(table).networks
    found = nas("profile", "--space", mini, "--out", "table.json", "--networks", 12, "--held-out", 4, "--seconds", 3, "--json")
    assert found.returncode == 0, found.stderr
    after = LatencyTable.load(tmp_path / "table.json").networks
    assert len(after) == 16
    assert all(after[digest] == known for digest, known in before.items())
    told = json.loads(found.stdout)
    assert (told["n"], told["table"]) == (4, "table.json")
