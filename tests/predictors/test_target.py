import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import MeasurementError, UnknownNameError, UsageError
from nas.predictors import device
from nas.predictors import runtime as registry
from nas.predictors.anchor import anchor
from nas.predictors.device import Device, register_device
from nas.predictors.runtime import register, runtime
from nas.predictors.target import Target

SOUND = st.one_of(
    st.builds(
        Target,
        device=st.just("cpu"),
        runtime=st.sampled_from(["eager", "compile"]),
        threads=st.integers(1, 64),
        batch=st.integers(1, 512),
        precision=st.sampled_from(["fp32", "bf16"]),
    ),
    st.builds(
        Target,
        device=st.just("cuda"),
        runtime=st.sampled_from(["eager", "graph"]),
        precision=st.sampled_from(["fp32", "bf16", "fp16"]),
    ),
    st.builds(Target, runtime=st.just("onnxruntime"), precision=st.sampled_from(["fp32", "int8"])),
)


@given(SOUND)
def test_its_text_is_read_back_as_the_same_target(target):
    assert Target.parse(str(target)) == target


def test_everything_but_the_device_has_a_default():
    assert Target.parse("cpu") == Target("cpu", "eager", 1, 1, "fp32")
    assert Target.parse(" cpu:onnxruntime, threads=2 ") == Target("cpu", "onnxruntime", threads=2)


def test_an_unknown_runtime_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'onnxruntime'"):
        Target.parse("cpu:onxruntime")


@pytest.mark.parametrize(
    "text",
    ["", "tpu", "cpu,", "cpu,thread=1", "cpu,threads=x", "cpu,threads=0", "cpu,threads=1,threads=2", "cpu,batch=-1",
     "cpu,precision=fp8", "cpu,precision=fp16", "cuda:onnxruntime", "cpu,threads", "cpu,threads=99999999999"],
)  # fmt: skip
def test_what_cannot_be_read_or_run_is_refused_in_one_line(text):
    if text == "":
        assert Target.parse(text) == Target()
        return
    with pytest.raises(UsageError) as caught:
        Target.parse(text)
    assert "\n" not in str(caught.value)


def test_a_gpu_is_what_its_runtime_calls_it():
    assert Target.parse("gpu,batch=8") == Target("cuda", batch=8)


def test_a_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MeasurementError, match="needs a CUDA device"):
        Target("cuda").require()


@pytest.fixture
def chip(monkeypatch):
    """A runtime with a device and a precision of its own, as another package would bring it."""
    runtime("eager")
    monkeypatch.setattr("nas.predictors.runtime._REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr("nas.predictors.device._REGISTRY", dict(device._REGISTRY))

    @register
    class Chip:
        name = "chip"
        supports = {"npu": ("int4", "fp32")}  # noqa: RUF012
        preparation = 0.0

        def prepare(self, model, example, target):
            return lambda: None

        def version(self):
            return "1"


@pytest.mark.usefixtures("chip")
def test_a_runtime_may_bring_its_own_device_and_precision():
    target = Target.parse("npu:chip,precision=int4")
    assert Target.parse(str(target)) == target
    target.require()
    with pytest.raises(UsageError, match="it runs npu in int4 or fp32"):
        Target.parse("npu:chip,precision=bf16")
    with pytest.raises(UsageError, match="does not run fp32 on npu"):
        Target.parse("npu:eager")


@pytest.mark.usefixtures("chip")
def test_a_device_says_itself_that_it_is_missing_and_cannot_be_announced_twice():
    def missing():
        raise MeasurementError("no chip is plugged in; plug one in")

    register_device(Device("npu", missing))
    with pytest.raises(MeasurementError, match=r"npu:chip.*no chip is plugged in"):
        Target("npu", "chip").require()
    with pytest.raises(UsageError, match="twice"):
        register_device(Device("npu"))


@pytest.mark.usefixtures("chip")
def test_a_device_without_pytorch_has_its_anchor_on_the_cpu():
    assert anchor(Target("npu", "chip"))().device.type == "cpu"
