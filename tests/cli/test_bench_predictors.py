"""`nas bench predictors` on a small table."""

import json

import numpy as np
import pytest

FIELDS = [
    "table",
    "target",
    "train_size",
    "seed",
    "method",
    "mape",
    "within_5",
    "within_10",
    "spearman",
    "kendall",
    "coverage_90",
    "code",
    "content",
]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, (950, 4))
    times = 1 + (codes[:, :, None] == np.arange(3)).sum(1) @ [0.1, 1, 3] * np.exp(0.02 * rng.standard_normal(950))
    lines = ["arch_idx,l00,l01,l02,l03,phone"]
    lines += [f"{i},{','.join(map(str, row))},{time:.4f}" for i, (row, time) in enumerate(zip(codes, times, strict=True))]
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "small.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "tables" / "other.csv").write_text("model,speed\na,1\n")
    return tmp_path / "tables"


def test_every_target_size_seed_and_method_has_its_row(nas, folder):
    done = nas(
        "bench", "predictors", "--tables", folder, "--train-sizes", "20,40", "--seeds", 2, "--methods", "table,ridge", "--json"
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 2 * 2 * 2
    assert all(list(row) == FIELDS for row in rows)
    assert all(row["mape"] < 0.2 for row in rows if row["method"] == "table")
    assert "passed over: table" in done.stderr


def test_a_run_that_was_stopped_goes_on_where_it_was(nas, folder, tmp_path):
    out = tmp_path / "rows.jsonl"
    common = ("bench", "predictors", "--tables", folder, "--methods", "table", "--train-sizes", "20", "--out", out)
    assert nas(*common, "--seeds", 2).returncode == 0
    marked = [{**json.loads(line), "mape": 0.5} for line in out.read_text().splitlines()]
    out.write_text("".join(json.dumps(row) + "\n" for row in marked) + '{"table": "small", "tar')
    assert nas(*common, "--seeds", 3).returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["seed"] for row in rows] == [0, 1, 2]
    assert [row["mape"] == 0.5 for row in rows] == [True, True, False]


def test_rows_of_other_code_or_of_another_table_of_that_name_are_measured_again(nas, folder, tmp_path):
    out, common = (
        tmp_path / "rows.jsonl",
        ("bench", "predictors", "--tables", folder, "--methods", "table", "--train-sizes", "20"),
    )
    assert nas(*common, "--out", out, "--seeds", 3).returncode == 0
    first, second, third = (json.loads(line) for line in out.read_text().splitlines())
    marked = [{**first, "code": "other", "mape": 0.5}, {**second, "content": "other", "mape": 0.5}, {**third, "mape": 0.5}]
    out.write_text("".join(json.dumps(row) + "\n" for row in marked))
    done = nas(*common, "--out", out, "--seeds", 3, "--json")
    assert "2 rows of" in done.stderr
    assert "2 of them are measured again" in done.stderr
    rows = {row["seed"]: row for row in json.loads(done.stdout)}
    assert (rows[0], rows[1], rows[2]["mape"]) == (first, second, 0.5)
    assert "measured again" not in nas(*common, "--out", out, "--seeds", 3).stderr
    table = folder / "small.csv"
    table.write_text(table.read_text().replace("\n7,0,", "\n7,1,").replace("\n7,2,", "\n7,0,"))
    assert "3 of them are measured again" in nas(*common, "--out", out, "--seeds", 3).stderr


def test_people_get_a_line_for_each_method(nas, folder):
    done = nas(
        "bench", "predictors", "--tables", folder, "--train-sizes", 20, "--seeds", 1, "--methods", "table", "--only", "small"
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3  # the head, the method, and the noise floor of rows that repeat
    assert nas("bench", "predictors", "--tables", folder, "--list").stdout.startswith("auto ")


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (("--methods", "tabel"), "Did you mean 'table'", 2),
        (("--train-sizes", "many"), "whole numbers", 2),
        (("--train-sizes", "2000"), "between 5 and 900", 2),
        (("--only", "smal"), "Did you mean 'small'", 2),
        (("--only", "small:fone"), "Did you mean 'phone'", 2),
    ],
)
def test_bad_requests_end_in_one_line(nas, folder, arguments, words, code):
    done = nas("bench", "predictors", "--tables", folder, *arguments)
    assert done.returncode == code
    assert words in done.stderr.splitlines()[-1]


def with_other_device(folder):
    table = folder / "small.csv"
    head, *lines = table.read_text().splitlines()
    table.write_text("\n".join([head + ",board", *(f"{line},{2 * float(line.split(',')[-1]):.4f}" for line in lines)]) + "\n")


def test_one_device_alone_is_learnt_from_the_others_of_its_table(nas, folder):
    with_other_device(folder)
    asked = ("--train-sizes", 20, "--seeds", 1, "--methods", "table", "--transfer", 20, "--only", "small:board", "--json")
    done = nas("bench", "predictors", "--tables", folder, *asked)
    assert done.returncode == 0, done.stderr
    assert [(row["target"], row["method"]) for row in json.loads(done.stdout)] == [("board", "table"), ("board", "transfer")]


def test_what_a_table_is_too_small_for_is_told(nas, fails, folder):
    table = folder / "small.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:300]))
    common = ("bench", "predictors", "--tables", folder, "--seeds", 1, "--methods", "table", "--only", "small")
    assert "small can train on 900 rows" in fails(nas(*common, "--train-sizes", 900), 2)
    done = nas(*common, "--train-sizes", "20,900")
    assert done.returncode == 0
    assert "small: too few rows to train on 900 and test on others; left out" in done.stderr
    assert "--transfer 20 needs a table of one space with two devices" in fails(
        nas(*common, "--train-sizes", 20, "--transfer", 20), 2
    )


def test_a_folder_without_tables_is_told(nas, fails, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no tables" in fails(nas("bench", "predictors", "--tables", tmp_path / "empty"), 1)
    assert "no tables" in fails(nas("bench", "predictors", "--tables", tmp_path / "nowhere"), 1)


def test_networks_that_nobody_knows_are_told_and_passed_over(nas, folder):
    lines = ["model,infer_step_time,infer_batch_size,infer_img_size", "no_such_net,3.5,1,224"]
    (folder / "speeds.csv").write_text("\n".join(lines) + "\n")
    done = nas("bench", "predictors", "--tables", folder, "--train-sizes", 20, "--seeds", 1, "--methods", "table")
    assert done.returncode == 0, done.stderr
    assert "names 1 networks, such as no_such_net, of which none is known" in done.stderr
    assert "small" in done.stdout


def test_the_noise_floor_stands_beside_a_device_that_measured_networks_twice(nas, tmp_path):
    rng = np.random.default_rng(0)
    codes = np.repeat(rng.integers(0, 3, (480, 6)), 2, axis=0)
    times = (5 + codes.sum(1)) * np.exp(0.02 * rng.standard_normal(960))
    lines = ["l00,l01,l02,l03,l04,l05,phone"]
    lines += [f"{','.join(map(str, row))},{time:.4f}" for row, time in zip(codes, times, strict=True)]
    (tmp_path / "twice.csv").write_text("\n".join(lines) + "\n")
    done = nas("bench", "predictors", "--tables", tmp_path, "--train-sizes", 50, "--seeds", 1, "--methods", "table")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[-1].split()
    assert words[:4] == ["twice", "phone", "noise", "floor:"]
    low, high = (float(word.rstrip("%,")) for word in (words[5], words[7]))
    assert low < 1.6 < high + 0.15
