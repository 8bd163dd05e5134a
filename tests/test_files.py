import json
import math

import pytest

from nas.files import read_json, write_json


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
