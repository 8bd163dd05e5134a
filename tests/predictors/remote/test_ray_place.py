import pytest
from torch import nn

import nas
from nas.errors import MeasurementError
from nas.predictors.remote.place import place
from nas.predictors.target import Target

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.thorough]
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(address="local", num_cpus=1, resources={"nas_device_here": 1}, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_module_is_measured_on_the_node_that_has_the_device():
    target = Target.parse("cpu:eager@ray:here")
    found = nas.measure(nn.Conv2d(3, 4, 3), target, 16, budget_seconds=0.2, accept_noise=True)
    assert found.target == str(target)
    assert found.median > 0
    assert place(target.place).anchor_seconds(target, 2) > 0
    assert "torch" in place(target.place).environment(target)


def test_a_node_that_nobody_offers_and_a_network_that_fails_are_told(tmp_path):
    with pytest.raises(MeasurementError, match=r"offers nas_device_there \(offered: nas_device_here\)"):
        Target.parse("cpu@ray:there").require()
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    with pytest.raises(MeasurementError, match=r"@ray:here: .*network-0\.onnx"):
        nas.measure(bad, Target.parse("cpu:onnxruntime@ray:here"), 16)
