import json
import math
import os

import pytest
import torch

from nas.files import read_json, write_json, write_tensors


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_become_null(tmp_path, odd):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    write_json(tmp_path / "a.json", {"b": [odd, 1.5, (odd, "x")], "a": {"c": odd, "d": True}, "e": 2})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"b": [None, 1.5, [None, "x"]], "a": {"c": None, "d": True}, "e": 2}
    assert text.index('"a"') < text.index('"b"')
    write_json(tmp_path / "a.json", {"a": 1.5})
    assert read_json(tmp_path / "a.json", "file") == {"a": 1.5}


def test_what_killed_writers_of_tensors_left_behind_is_removed_but_not_what_is_being_written(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    names = (".checkpoint-old.safetensors", ".checkpoint-new.safetensors", ".other-old.safetensors", ".checkpoint-old.json")
    for name in names:
        (tmp_path / name).write_bytes(b"torn")
        if "new" not in name:
            os.utime(tmp_path / name, (0, 0))
    write_tensors(path, {"a": torch.ones(2)}, {})
    assert {found.name for found in tmp_path.iterdir()} == {path.name, *names[1:]}
