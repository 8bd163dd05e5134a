"""Scores that are computed once, and probes of several seeds read back."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nas
from nas.errors import FileError, NasError, UsageError
from nas.results.ranking.kept import KeptScores
from nas.results.ranking.outcomes import ceiling, counts_of_seeds, read_outcomes

SPACE = nas.load_space("tiny")
MEMBERS = [SPACE.sample(random.Random(seed)) for seed in range(5)]


def counting(calls):
    def compute(architecture):
        calls.append(architecture.digest)
        return {"loss": len(calls), "proxy": math.inf, "other": math.nan}

    return compute


def test_a_score_is_computed_once_and_read_back_as_it_was(tmp_path):
    calls = []
    first = KeptScores(tmp_path, {"steps": 0}, counting(calls))
    assert first.known(MEMBERS[0]) is None
    found = first(MEMBERS[0])
    again = KeptScores(tmp_path, {"steps": 0}, counting(calls))
    assert again.known(MEMBERS[0]).keys() == found.keys()
    for mine, theirs in zip(again(MEMBERS[0]).values(), found.values(), strict=True):
        assert mine == theirs or (math.isnan(mine) and math.isnan(theirs))
    assert calls == [MEMBERS[0].digest]
    assert again(MEMBERS[1])["loss"] == 2


@pytest.mark.parametrize("lack", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")])
def test_where_memory_runs_out_one_line_says_so_and_what_was_scored_stays(tmp_path, lack):
    def short(architecture):
        if architecture == MEMBERS[1]:
            raise lack
        return {"loss": 1.0}

    scores = KeptScores(tmp_path, {}, short)
    scores(MEMBERS[0])
    with pytest.raises(NasError, match=f"memory ran out .*network {MEMBERS[1].digest} .*the command again") as told:
        scores(MEMBERS[1])
    assert "\n" not in str(told.value)
    assert scores.known(MEMBERS[0]) == {"loss": 1.0}
    assert scores.known(MEMBERS[1]) is None


def test_other_mistakes_of_scoring_stay_what_they_are(tmp_path):
    def mistaken(architecture):
        raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match=r"^sizes differ"):
        KeptScores(tmp_path, {}, mistaken)(MEMBERS[0])


def test_scores_of_other_settings_are_never_taken(tmp_path):
    calls = []
    identities = [{"adaptation": {}}, {"adaptation": {"steps": 40}}, {"adaptation": {"steps": 41}}, {"weights": "ab"}]
    for identity in identities:
        KeptScores(tmp_path, identity, counting(calls))(MEMBERS[0])
    assert len(calls) == len({folder.name for folder in tmp_path.iterdir()}) == len(identities)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"identity": {"a": 1}}', '{"identity": {"a": 1}, "values": {"x": "y"}}'])
def test_a_damaged_file_is_named(tmp_path, text):
    scores = KeptScores(tmp_path, {"a": 1}, counting([]))
    scores(MEMBERS[0])
    path = scores.folder / f"{MEMBERS[0].digest}.json"
    path.write_text(text)
    with pytest.raises(FileError, match=path.name):
        scores(MEMBERS[0])


def outcome(folder, architecture, accuracy, seed=None, **recipe):
    told = {"identity": folder.name, "architecture": architecture.to_json(), "accuracy": accuracy, "loss": 1.0}
    if seed is not None:
        told["recipe"] = {"seed": seed, "epochs": 12, **recipe}
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{architecture.digest}.json").write_text(json.dumps(told))


def test_the_truth_is_the_mean_over_the_seeds_and_their_agreement_the_ceiling(tmp_path):
    for index, member in enumerate(MEMBERS):
        outcome(tmp_path / "a" / "one", member, index / 10, 0)
        outcome(tmp_path / "a" / "two", member, index / 10 + 0.02, 1)
    probes = read_outcomes([tmp_path])
    by_digest = {probe.architecture.digest: probe for probe in probes}
    assert by_digest.keys() == {member.digest for member in MEMBERS}
    assert by_digest[MEMBERS[3].digest].truth == pytest.approx(0.31)
    assert (ceiling(probes).tau, ceiling(probes).n) == (1.0, 5)
    assert counts_of_seeds(probes) == {"probes": 5, "fewest_seeds": 2, "most_seeds": 2}
    outcome(tmp_path / "a" / "two", MEMBERS[4], None, 1)
    assert (ceiling(read_outcomes([tmp_path])).n, counts_of_seeds(read_outcomes([tmp_path]))["fewest_seeds"]) == (4, 1)


def test_files_of_before_recipes_were_told_are_a_seed_a_folder(tmp_path):
    for member in MEMBERS:
        outcome(tmp_path / "one", member, 0.5)
        outcome(tmp_path / "two", member, 0.0)
    (tmp_path / "result.json").write_text("{}\n{}\n")
    (tmp_path / f"{'0' * 16}.json").write_text('{"values": {}}')
    assert [probe.truth for probe in read_outcomes([tmp_path / "one", tmp_path / "two"])] == [0.25] * len(MEMBERS)


def test_files_with_and_without_a_recipe_of_one_training_are_of_one_seed(tmp_path):
    """A ranking that an earlier version began is gone on with in the same folder."""
    for index, member in enumerate(MEMBERS):
        outcome(tmp_path / "one", member, index / 10, *([] if index < 2 else [0]))
        outcome(tmp_path / "two", member, index / 10, 1)
    probes = read_outcomes([tmp_path])
    assert {tuple(probe.accuracies) for probe in probes} == {("0", "1")}
    assert ceiling(probes).n == len(MEMBERS)


def test_one_seed_has_no_ceiling(tmp_path):
    for member in MEMBERS:
        outcome(tmp_path, member, 0.5, 0)
    assert ceiling(read_outcomes([tmp_path])) is None


def test_probes_of_other_recipes_are_refused_and_none_is_told(tmp_path):
    with pytest.raises(FileError, match="no outcome of a probe lies in"):
        read_outcomes([tmp_path])
    outcome(tmp_path / "a", MEMBERS[0], 0.5, 0)
    outcome(tmp_path / "b", MEMBERS[0], 0.5, 1, epochs=60)
    with pytest.raises(UsageError, match="were trained by different recipes or on other data"):
        read_outcomes([tmp_path])


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=4))
def test_numbers_survive_the_file(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("kept")
    scores = KeptScores(folder, {}, lambda _: {str(index): value for index, value in enumerate(values)})
    scores(MEMBERS[0])
    assert list(scores.known(MEMBERS[0]).values()) == values
