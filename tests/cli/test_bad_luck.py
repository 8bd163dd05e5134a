"""Runs that were damaged, and disks that are full: one line that says what to do, and nothing half-written."""

import json
import resource
import shutil
import sys

import pytest
import yaml

pytestmark = pytest.mark.slow


def refused(nas, run, code=1):
    """The last line of a resumption that must fail; progress of what came before it is allowed."""
    found = nas("search", "--resume", run)
    lines = found.stderr.splitlines()
    assert found.returncode == code, found.stderr
    assert found.stdout == ""
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in found.stderr
    assert "unexpected" not in lines[-1]
    return lines[-1]


def test_a_folder_that_holds_a_run_takes_no_other(nas, fails, copied, mini):
    before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    line = fails(nas("search", "--space", mini, "--out", copied), 2)
    assert f"{copied} holds a run already: go on with it by `nas search --resume {copied}`" in line
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before


def test_an_unfinished_run_cannot_be_exported_reported_or_described(nas, fails, unfinished, tmp_path):
    for arguments in (("export", unfinished, "--out", "given"), ("report", unfinished), ("describe", unfinished)):
        line = fails(nas(*arguments), 1)
        assert f"`nas search --resume {unfinished}` goes on with it" in line
    assert not (tmp_path / "given").exists()


def test_an_unknown_format_is_refused_before_anything_is_written(nas, fails, reference, tmp_path):
    line = fails(nas("export", reference / "run", "--out", "given", "--formats", "json,onxx"), 2)
    assert "unknown export format 'onxx'. Did you mean 'onnx'?" in line
    assert not (tmp_path / "given").exists()


def test_an_export_to_an_impossible_place_is_refused(nas, fails, reference, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert "cannot write file/given" in fails(nas("export", reference / "run", "--out", "file/given"), 1)


@pytest.mark.parametrize("keep", [0, 5, 3000, -100])
def test_a_truncated_checkpoint_is_refused(nas, unfinished, keep):
    path = unfinished / "supernet" / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    line = refused(nas, unfinished)
    assert "checkpoint.safetensors is damaged" in line
    assert "delete it to train from the start" in line


def test_the_weights_of_another_program_are_no_checkpoint(nas, unfinished, reference):
    shutil.copy(reference / "run" / "winner" / "weights.safetensors", unfinished / "supernet" / "checkpoint.safetensors")
    assert "is no checkpoint of nas" in refused(nas, unfinished)


def test_a_checkpoint_of_another_recipe_is_refused(nas, unfinished):
    edit(unfinished, lambda config: config["training"].update(learning_rate=0.0123))
    assert "holds the candidates of another run (other data, training, supernet, seed, targets or budgets)" in refused(
        nas, unfinished
    )


@pytest.mark.parametrize("content", ['{"a": 1}\n', "rubbish\n", '{"op_code": 0}\n{"op_code": 1}\n'])
def test_a_foreign_journal_is_refused(nas, fails, unfinished, content):
    (unfinished / "study.journal").write_text(content)
    assert "study.journal" in fails(nas("search", "--resume", unfinished), 1)
    assert (unfinished / "study.journal").read_text() == content, "what is not ours is left as it is"


def test_an_unreachable_storage_is_told_before_anything_is_measured(nas, fails, mini, tmp_path):
    line = fails(nas("search", "--space", mini, "--storage", f"sqlite:///{tmp_path}/none/x.db", "--out", "run"), 1)
    assert "cannot open the storage sqlite:///" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        (
            "postgresql+psycopg://me:hunter2@host/x",
            1,
            'its driver psycopg is not installed; pip install "hybrid-nas[postgresql]"',
        ),
        ("postgres://me:hunter2@host/x", 2, "unknown kind of storage 'postgres'. Did you mean 'postgresql'?"),
        ("postgresql://me:hunter2@host:x/x", 2, "cannot read the storage URL postgresql://...; write it like"),
    ],
)
def test_a_storage_that_cannot_be_is_told_without_its_password(nas, fails, mini, tmp_path, monkeypatch, url, code, words):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    line = fails(nas("search", "--space", mini, "--storage", url, "--out", "run"), code)
    assert words in line
    assert "hunter2" not in line
    assert list(tmp_path.iterdir()) == []


def edit(run, change):
    path = run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


DAMAGE = {
    "another program's": lambda config: config.pop("format"),
    "a later version": lambda config: config.update(version=3),
    "a missing part": lambda config: config.pop("training"),
    "a missing space": lambda config: config.pop("space"),
    "an unknown field": lambda config: config.update(spaec=1),
    "an unknown part of a recipe": lambda config: config["training"].update(epoch=3),
    "a word for a number": lambda config: config.update(evaluations="many"),
    "nothing for a number": lambda config: config.update(threads=None),
    "a word in a recipe": lambda config: config["finetuning"].update(learning_rate="high"),
    "a word for a budget": lambda config: config["budgets"].update(latency="5ms"),
    "a budget below zero": lambda config: config["budgets"].update(latency=-1),
    "an unknown budget": lambda config: config["budgets"].update(power=1.0),
    "an unknown operator": lambda config: config["space"].update(norms=["lair"]),
    "an unknown target": lambda config: config.update(target="tpu"),
    "a number for the data": lambda config: config.update(data=3),
    "a list for a recipe": lambda config: config.update(training=[1, 2]),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_configuration_is_refused(nas, fails, unfinished, change):
    edit(unfinished, change)
    line = fails(nas("search", "--resume", unfinished), 1)
    assert str(unfinished / "config.yaml") in line
    assert "unexpected" not in line or "argument" in line


@pytest.mark.parametrize("content", [b"", b"seed: [", b"\xff\xfe\x00rubbish", b"- a\n- b\n"])
def test_a_configuration_that_cannot_be_read_is_refused(nas, fails, unfinished, content):
    (unfinished / "config.yaml").write_bytes(content)
    assert "config.yaml" in fails(nas("search", "--resume", unfinished), 1)


def test_a_configuration_cut_off_in_the_middle_is_refused(nas, fails, unfinished):
    path = unfinished / "config.yaml"
    path.write_bytes(path.read_bytes()[:300])
    assert "is damaged" in fails(nas("search", "--resume", unfinished), 1)


def test_data_that_has_changed_is_not_searched_on(nas, fails, unfinished):
    edit(unfinished, lambda config: config.update(data_fingerprint="0" * 16))
    assert "has changed since the run began" in fails(nas("search", "--resume", unfinished), 2)


def test_damaged_verification_is_refused(nas, unfinished):
    (unfinished / "verification.json").write_text('[{"digest": 1}]')
    assert "verification.json is damaged" in refused(nas, unfinished)


@pytest.mark.parametrize("name", ["summary.json", "verification.json", "latency/table.json"])
def test_a_report_of_damaged_files_is_refused(nas, fails, copied, name):
    (copied / name).write_text("{")
    line = fails(nas("report", copied), 1)
    assert str(copied / name) in line
    assert "unexpected" not in line


@pytest.mark.parametrize("kilobytes", [20, pytest.param(45, marks=pytest.mark.thorough)])
def test_a_full_disk_is_told_in_one_line_and_leaves_no_half_file(start, request_of, tmp_path, kilobytes):
    # A file over the limit ends in the error of a full disk; the limit strikes the latency table, or the checkpoint.
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))}
    process = start(*request_of, "--out", tmp_path / "run", **limit)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, err
    assert out == ""
    assert err.splitlines()[-1].startswith(f"error: cannot write {tmp_path / 'run'}")
    assert "free some space" in err.splitlines()[-1]
    assert "Traceback" not in err
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path for path in written if path.name.startswith(".") or path.stat().st_size >= kilobytes * 1024]
    for path in written:
        if path.suffix == ".json":
            json.loads(path.read_text())
