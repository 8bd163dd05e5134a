import gzip
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileError
from nas.predictors.machine import MachineState
from nas.predictors.samples import SampleFile, read_samples, samples_path
from nas.predictors.target import Target
from nas.predictors.timings import Visit

TARGET = Target("cpu", "onnxruntime", threads=2, batch=4, precision="int8")
STATE = MachineState(clock_hz=2e9, governor="performance", load=0.5, throttles=0, cpus=(1,))


def visit(number):
    return Visit(1e9 + number, number, (1e-3, 2e-3), 1, STATE)


def write(path, numbers):
    file = SampleFile(path, TARGET, "onnxruntime 1")
    for number in numbers:
        file.add("network", f"n{number}", visit(number))
    file.flush()


def test_a_line_says_what_ran_where_and_how_the_machine_was(tmp_path):
    write(tmp_path / "t.samples.jsonl.gz", [3])
    (line,) = read_samples(tmp_path / "t.samples.jsonl.gz")
    about = {"device": "cpu", "runtime": "onnxruntime", "version": "onnxruntime 1", "precision": "int8"}
    machine = {"clock_hz": 2e9, "governor": "performance", "load": 0.5, "throttles": 0, "cpus": [1]}
    visited = {"what": "network", "id": "n3", "at": 1e9 + 3, "round": 3, "seconds": [1e-3, 2e-3], "interruptions": 1}
    assert line == {**about, "batch": 4, "threads": 2, **machine, **visited}


def test_files_grow_and_pandas_reads_them(tmp_path):
    path = tmp_path / "t.samples.jsonl.gz"
    for number in range(3):
        write(path, [number])
    assert [line["id"] for line in read_samples(path)] == ["n0", "n1", "n2"]
    assert list(pd.read_json(path, lines=True)["round"]) == [0, 1, 2]


@given(st.integers(0, 1 << 30))
def test_what_a_crash_cut_off_is_dropped_and_nothing_else(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("samples") / "t.samples.jsonl.gz"
    write(path, [0, 1])
    whole = path.stat().st_size
    write(path, range(2, 30))
    data = path.read_bytes()
    cut = whole + cut % (len(data) - whole + 1)
    path.write_bytes(data[:cut])
    kept = 30 if cut == len(data) else 2
    assert len(list(read_samples(path))) == kept
    write(path, [99])
    assert [line["id"] for line in read_samples(path)][-1] == "n99"
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == kept + 1


def test_nothing_is_written_before_it_is_flushed_and_nothing_twice(tmp_path):
    path = tmp_path / "folder" / "t.samples.jsonl.gz"
    file = SampleFile(path, TARGET, "1")
    file.flush()
    assert not path.exists()
    file.add("node", "k", visit(0))
    file.flush()
    file.flush()
    assert json.loads(gzip.decompress(path.read_bytes()))["what"] == "node"


def test_samples_lie_beside_their_table_and_a_missing_file_is_named(tmp_path):
    assert samples_path(tmp_path / "a.json") == tmp_path / "a.samples.jsonl.gz"
    with pytest.raises(FileError, match="cannot read the samples"):
        list(read_samples(tmp_path / "none.gz"))
