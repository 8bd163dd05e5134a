"""What cannot be understood ends at once: one line, the right exit code, and nothing left behind."""

import json

import pytest
import torch
from PIL import Image

from nas.predictors.latency_table import LatencyTable

USAGE = {
    "command": (["serch"], "No such command 'serch'"),
    "no command": ([], "Missing command"),
    "option": (["search", "--buget-latency", "5ms"], "No such option: --buget-latency"),
    "unit": (["search", "--budget-latency", "5kg"], "cannot read '5kg' as a time; write a number and one of ns"),
    "no unit": (["search", "--budget-latency", "5"], "cannot read '5' as a time"),
    "below zero": (["search", "--budget-latency", "-5ms"], "a time must be above zero, got '-5ms'"),
    "zero": (["search", "--budget-params", "0"], "a count must be above zero, got '0'"),
    "not a number": (["search", "--evaluations", "many"], "Invalid value for '--evaluations'"),
    "no evaluations": (["search", "--evaluations", "0"], "evaluations must be at least 1, got 0"),
    "no epochs": (["search", "--epochs", "0"], "training needs at least 1 epochs"),
    "no threads": (["search", "--threads", "0"], "threads must be at least 1, got 0"),
    "workers alone": (["search", "--workers", "2"], "2 workers need Ray: add --ray local"),
    "space": (["search", "--space", "tny"], "unknown space 'tny'. Did you mean 'tiny'?"),
    "strategy": (["search", "--strategy", "evolutoin"], "unknown strategy 'evolutoin'. Did you mean 'evolution'?"),
    "runtime": (["search", "--target", "cpu:onnxruntme"], "unknown runtime 'onnxruntme'. Did you mean 'onnxruntime'?"),
    "device": (["search", "--target", "tpu"], "device 'tpu' of a target is not one of cpu, cuda"),
    "target option": (["profile", "--target", "cpu,cores=2"], "cannot read 'cores=2' in target 'cpu,cores=2'"),
    "precision": (["profile", "--target", "cpu:onnxruntime,precision=bf16"], "runtime 'onnxruntime' does not run bf16 on cpu"),
    "source": (["search", "--data", "digts"], "unknown data source 'digts'. Did you mean 'digits'?"),
    "folder": (["search", "--data", "folder:nowhere"], "data folder 'nowhere' does not exist; write --data folder:PATH"),
    "no folder": (["search", "--data", "folder:"], "data folder '' does not exist"),
    "parquet": (["search", "--data", "parquet:nowhere"], "no parquet file at 'nowhere'; write --data parquet:FILE"),
    "hub": (["search", "--data", "hub:"], "data source 'hub' needs a name"),
    "digits": (["search", "--data", "digits:x"], "data source 'digits' takes no path, got 'x'"),
    "kind": (["operators", "--kind", "token_mixr"], "unknown kind of operator 'token_mixr'. Did you mean 'token_mixer'?"),
    "spaces": (["spaces", "mobil"], "unknown space 'mobil'. Did you mean 'mobile'?"),
    "few networks": (["profile", "--networks", "4"], "Invalid value for '--networks'"),
    "describe": (["describe", "random", "--num-classes", "0"], "Invalid value for '--num-classes'"),
    "resume and more": (
        ["search", "--resume", "r", "--evaluations", "9"],
        "--resume takes everything from the run's config.yaml",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), USAGE.values(), ids=USAGE)
def test_a_request_that_cannot_be_understood_ends_with_code_2(nas, fails, tmp_path, arguments, words):
    assert words in fails(nas(*arguments), 2)
    assert list(tmp_path.iterdir()) == []


def images(folder, **counts):
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (8, 8), (index * 9, 0, 0)).save(folder / name / f"{index}.png")


def test_a_folder_without_images_is_refused(nas, fails, tmp_path, mini):
    (tmp_path / "data" / "cats").mkdir(parents=True)
    line = fails(nas("search", "--space", mini, "--data", "folder:data", "--out", "run"), 2)
    assert "has 0 sub-folders with images, needs at least 2 (one a class)" in line
    assert not (tmp_path / "run").exists()


def test_a_single_class_is_refused(nas, fails, tmp_path, mini):
    images(tmp_path / "data", cats=6)
    line = fails(nas("search", "--space", mini, "--data", "folder:data", "--out", "run"), 2)
    assert "has 1 sub-folders with images, needs at least 2" in line
    assert not (tmp_path / "run").exists()


def test_too_few_images_of_a_class_are_refused(nas, fails, tmp_path, mini):
    images(tmp_path / "data", cats=6, dogs=2)
    line = fails(nas("search", "--space", mini, "--data", "folder:data", "--out", "run"), 2)
    assert "5 images each; the smallest class has 2" in line


def test_a_damaged_image_is_named(nas, fails, tmp_path, mini):
    images(tmp_path / "data", cats=6, dogs=6)
    (tmp_path / "data" / "dogs" / "torn.png").write_bytes(b"\x89PNG")
    line = fails(nas("search", "--space", mini, "--data", "folder:data", "--out", "run"), 1)
    assert "image data/dogs/torn.png is damaged or no image" in line
    assert "repair or remove it" in line


def test_a_damaged_parquet_file_is_named_without_the_words_of_other_libraries(nas, fails, tmp_path, mini):
    (tmp_path / "x.parquet").write_text("no parquet")
    assert "cannot read the data 'x.parquet'" in fails(nas("search", "--space", mini, "--data", "parquet:x.parquet"), 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format": "nas-archi', "not JSON"),
        ("", "not JSON"),
        ("[]", 'has no "format": "nas-architecture"'),
        ('{"format": "other"}', 'has no "format": "nas-architecture"'),
        ('{"format": "nas-architecture", "version": 99}', "version 99"),
        ('{"format": "nas-architecture", "version": 1}', "lacks"),
        ("\0\xff", "not JSON"),
    ],
)
def test_a_damaged_or_foreign_architecture_is_refused_by_name(nas, fails, tmp_path, content, words):
    (tmp_path / "a.json").write_text(content)
    line = fails(nas("describe", "a.json", "--svg", "a.svg"), 1)
    assert "a.json" in line
    assert words in line
    assert not (tmp_path / "a.svg").exists()


def test_an_architecture_with_an_unknown_operator_is_refused(nas, fails, tmp_path, mini):
    made = json.loads(nas("describe", "smallest", "--space", mini, "--json").stdout)["architecture"]
    made["stages"][0]["blocks"][0]["mixers"][0]["operator"] = "poolin"
    (tmp_path / "a.json").write_text(json.dumps(made))
    assert "Did you mean 'pooling'?" in fails(nas("describe", "a.json"), 1)


def test_a_name_that_is_no_architecture_is_answered_with_what_is(nas, fails):
    assert "no architecture 'randm': name architecture.json, a run folder" in fails(nas("describe", "randm"), 1)


def test_binary_rubbish_is_refused_as_an_architecture(nas, fails, tmp_path):
    (tmp_path / "a.json").write_bytes(bytes(range(128, 256)))
    assert "cannot read architecture a.json: not text" in fails(nas("describe", "a.json"), 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("preset: tiny\nwidht: [8]", "unknown search-space field 'widht'. Did you mean 'widths'?"),
        ("preset: tiny\nmixers: [poolin]", "poolin"),
        ("preset: huge", "unknown preset 'huge'"),
        ("- a list", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("preset: tiny\nwidths: 8", "widths"),
        ("preset: tiny\ndepths: [[0], [1], [1]]", "depth"),
        ("name: empty", "start from a preset"),
    ],
)
def test_a_space_that_breaks_a_rule_is_refused(nas, fails, tmp_path, content, words):
    (tmp_path / "my.yaml").write_text(content)
    assert words in fails(nas("search", "--space", "my.yaml"), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_a_missing_space_file_is_named(nas, fails):
    assert "cannot read search space my.yaml" in fails(nas("spaces", "my.yaml"), 1)


@pytest.mark.parametrize("command", ["export", "report"])
def test_a_folder_that_is_no_run_is_refused(nas, fails, tmp_path, command):
    rest = ("--out", "given") if command == "export" else ()
    assert "is no run folder: it has no config.yaml" in fails(nas(command, ".", *rest), 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", [".", "nowhere"])
def test_a_folder_that_is_no_run_cannot_be_resumed(nas, fails, tmp_path, folder):
    assert f"{folder} is no run folder" in fails(nas("search", "--resume", folder), 1)
    assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_or_lies_below_a_file_is_refused(nas, fails, tmp_path, mini):
    (tmp_path / "file").write_text("precious")
    for out in ("file", "file/below"):
        line = fails(nas("search", "--space", mini, "--out", out), 1)
        assert f"cannot make the run folder {out}" in line
        assert "choose another --out" in line
    assert (tmp_path / "file").read_text() == "precious"


def test_a_place_where_nothing_can_be_written_is_refused(nas, fails, mini):
    assert "cannot make the run folder /proc/run" in fails(nas("search", "--space", mini, "--out", "/proc/run"), 1)


@pytest.mark.slow
class TestTables:
    """A latency table of something else is refused before anything is measured."""

    def refused(self, nas, fails, tmp_path, mini, path, *more):
        line = fails(nas("search", "--space", mini, "--latency-table", path, "--out", tmp_path / "run", *more), 1)
        assert not (tmp_path / "run").exists()
        return line

    def test_of_another_target(self, nas, fails, tmp_path, mini, table):
        line = self.refused(nas, fails, tmp_path, mini, table, "--target", "cpu:onnxruntime")
        assert "is of target cpu:eager" in line
        assert "not cpu:onnxruntime" in line

    def test_of_other_classes_or_channels(self, nas, fails, tmp_path, mini, table):
        images(tmp_path / "data", cats=6, dogs=6)
        line = self.refused(nas, fails, tmp_path, mini, table, "--data", f"folder:{tmp_path / 'data'}")
        assert "is of 10 classes and 1 channels, the data has 2 and 3" in line
        assert "nas profile --num-classes 2 --in-channels 3" in line

    def test_with_too_few_networks(self, nas, fails, tmp_path, mini, table):
        found = LatencyTable.load(table)
        found.networks = dict(list(found.networks.items())[:5])
        found.save(tmp_path / "few.json")
        assert "the predictor needs 8" in self.refused(nas, fails, tmp_path, mini, tmp_path / "few.json")

    def test_damaged_or_missing(self, nas, fails, tmp_path, mini, table):
        (tmp_path / "torn.json").write_text(table.read_text()[:1000])
        assert "torn.json is damaged" in self.refused(nas, fails, tmp_path, mini, tmp_path / "torn.json")
        assert "cannot read latency table" in self.refused(nas, fails, tmp_path, mini, tmp_path / "none.json")

    def test_profile_does_not_go_on_with_a_table_of_something_else(self, nas, mini, table):
        before = table.read_bytes()
        found = nas("profile", "--space", mini, "--out", table, "--num-classes", 7, "--seconds", 3)
        assert found.returncode == 1
        assert found.stderr.splitlines()[-1].startswith("error: latency table")
        assert "has num_classes 10, not 7; name another file" in found.stderr
        assert table.read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (["--budget-latency", "1us"], "runs in 1 µs on cpu:eager,threads=1,batch=1,precision=fp32: the fastest found "),
        (["--budget-params", "100"], "meets the params budget of 100: the closest one found has "),
        (["--budget-macs", "1k"], "meets the macs budget of 1k: the closest one found has "),
    ],
    ids=["latency", "params", "macs"],
)
def test_a_budget_below_the_smallest_network_ends_with_code_3_before_any_training(nas, mini, tmp_path, budget, words):
    found = nas("search", "--space", mini, *budget, "--out", "run")
    assert found.returncode == 3
    assert found.stdout == ""
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert errors == found.stderr.splitlines()[-1:]
    assert words in errors[0]
    assert any(letter.isdigit() for letter in errors[0].partition(words)[2].split(";")[0]), "the best that can be had is named"
    assert "raise" in errors[0]
    assert not (tmp_path / "run" / "supernet").exists()


def test_an_infeasible_search_leaves_its_folder_free_for_a_higher_budget(nas, fails, mini, tmp_path):
    assert nas("search", "--space", mini, "--budget-params", "100", "--out", "run").returncode == 3
    again = nas("search", "--space", mini, "--budget-params", "200", "--out", "run")
    assert again.returncode == 3
    assert "200" in again.stderr.splitlines()[-1]


def test_a_device_that_this_machine_lacks_is_told_at_once(nas, fails, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    assert "needs a CUDA device" in fails(nas("search", "--target", "cuda", "--out", "run"), 1)
    assert list(tmp_path.iterdir()) == []
