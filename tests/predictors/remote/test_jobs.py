import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.predictors.machine import MachineState
from nas.predictors.remote.agent.jobs import Job, Network, Timed
from nas.predictors.remote.agent.wire import WireError
from nas.predictors.timings import Visit

SHAPES = st.lists(st.integers(1, 8), min_size=1, max_size=4).map(tuple)
NETWORKS = st.builds(Network, st.binary(max_size=50), SHAPES)
POSITIVE = st.floats(1e-9, 1e3)
JOBS = st.builds(
    Job,
    id=st.text("0123456789abcdef", min_size=32, max_size=32),
    device=st.sampled_from(["cpu", "npu"]),
    runtime=st.sampled_from(["onnxruntime", "toy"]),
    precision=st.sampled_from(["fp32", "int8"]),
    threads=st.integers(1, 64),
    networks=st.lists(NETWORKS, max_size=3).map(tuple),
    anchor=st.none() | NETWORKS,
    seconds=POSITIVE,
    rounds=st.integers(1, 100),
    narrow=st.floats(0, 1),
    cooling=st.floats(0, 60),
    reference=st.none() | POSITIVE,
)


MAYBE = st.none() | POSITIVE
STATES = st.builds(MachineState, MAYBE, st.none() | st.just("performance"), MAYBE, st.none() | st.integers(0, 9), MAYBE,
                   st.lists(st.integers(0, 63), max_size=2).map(tuple))  # fmt: skip


@st.composite
def visits(draw, rounds):
    seconds = draw(st.lists(POSITIVE, min_size=1, max_size=4))
    interruptions = draw(st.none() | st.integers(0, 9))
    beside = draw(st.just([]) | st.lists(POSITIVE, min_size=len(seconds), max_size=len(seconds)))
    number, settled = draw(st.integers(0, rounds - 1)), draw(st.booleans())
    return Visit(draw(POSITIVE), number, tuple(seconds), interruptions, draw(STATES), settled, tuple(beside))


@st.composite
def samples(draw):
    rounds = draw(st.integers(1, 3))
    anchor = draw(st.lists(visits(rounds), min_size=rounds, max_size=rounds))
    return Timed(draw(st.lists(st.lists(visits(rounds), max_size=2), max_size=2)), anchor)


@given(JOBS)
def test_a_job_is_read_as_it_was_written(job):
    assert Job.from_message(*job.to_message()) == job


@given(samples())
def test_samples_are_read_as_they_were_written_to_the_last_bit(timed):
    header, body = timed.to_message({"state": "done"})
    assert header["state"] == "done"
    assert Timed.from_message(header, body) == timed


BAD = [
    {"id": "../../etc/passwd"}, {"id": "A" * 32}, {"id": 7}, {"device": 3}, {"threads": 0}, {"threads": "2"}, {"rounds": 10**9},
    {"seconds": 0.0}, {"seconds": float("nan")}, {"seconds": 1e9}, {"narrow": -1.0}, {"cooling": -1.0}, {"reference": 0.0},
    {"networks": None},
    {"networks": [{"bytes": 5, "shape": [1]}]}, {"networks": [{"bytes": -3, "shape": [1]}]},
    {"networks": [{"bytes": 3, "shape": [1 << 40]}]}, {"networks": [{"bytes": 3, "shape": []}]}, {"networks": [{"bytes": 3}]},
    {"anchor": {"bytes": 3, "shape": "abc"}},
]  # fmt: skip


@pytest.mark.parametrize("change", BAD, ids=str)
def test_a_job_that_cannot_be_meant_is_refused(change):
    job = Job("0" * 32, "cpu", "toy", "fp32", 1, (Network(b"abc", (1, 2)),))
    header, body = job.to_message()
    with pytest.raises(WireError, match="a job is damaged"):
        Job.from_message({**header, **change}, body)


@given(JOBS, st.data())
def test_a_job_without_one_of_its_fields_is_refused(job, data):
    header, body = job.to_message()
    del header[data.draw(st.sampled_from(sorted(header)))]
    with pytest.raises(WireError):
        Job.from_message(header, body)


VISIT = {"at": 1.0, "round": 0, "n": 2, "beside": False, "interruptions": None, "settled": True, "state": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"n": 3},
        {"n": 1},
        {"n": 0},
        {"round": 5},
        {"round": -1},
        {"state": {"mood": 3}},
        {"state": 3},
        {"at": "x"},
        {"beside": True},
    ],
)
def test_samples_that_do_not_fit_are_refused(change):
    _, body = Timed([], [Visit(1.0, 0, (1.0, 2.0), None, MachineState())]).to_message({})
    assert Timed.from_message({"visits": [[VISIT]]}, body).anchor[0].seconds == (1.0, 2.0)
    for header in ({"visits": [[{**VISIT, **change}]]}, {"visits": []}, {"visits": 3}, {}):
        with pytest.raises(WireError, match="a result is damaged"):
            Timed.from_message(header, body)
