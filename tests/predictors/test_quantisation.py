import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nas.errors import FileError, MeasurementError
from nas.predictors.quantisation import operators_of, precision_of, quantise
from nas.predictors.runtime import runtime
from nas.predictors.target import Target

INT8 = Target.parse("cpu:onnxruntime,precision=int8")
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


class Small(nn.Module):
    """Convolution, norm, activation and classifier."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, image):
        return self.head(torch.softmax(self.norm(self.conv(image).permute(0, 2, 3, 1)), -1).mean((1, 2)))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("quantised") / "model.onnx"
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.onnx.export(Small().eval(), (IMAGES,), path, dynamo=True, verbose=False, dynamic_shapes=shapes, external_data=False)
    return path


def logits(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]


def test_products_become_int8_and_the_rest_is_told_to_stay_in_fp32(file, tmp_path):
    found = quantise(file, tmp_path / "int8.onnx", IMAGES)
    assert found.int8 == {"Conv": 1, "Gemm": 1}
    assert found.fp32 == {"LayerNormalization": 1, "Softmax": 1, "ReduceMean": 1}
    assert str(found) == "in int8: 1 Conv, 1 Gemm; in fp32: 1 LayerNormalization, 1 ReduceMean, 1 Softmax"
    weights = {
        item.data_type for item in onnx.load(tmp_path / "int8.onnx").graph.initializer if item.name.endswith("_quantized")
    }
    assert onnx.TensorProto.INT8 in weights


def test_the_int8_file_gives_nearly_the_networks_logits_for_any_batch(file, tmp_path):
    quantise(file, tmp_path / "int8.onnx", IMAGES)
    for images in (IMAGES, IMAGES[:1]):
        np.testing.assert_allclose(logits(tmp_path / "int8.onnx", images), logits(file, images), atol=0.02)


def test_weights_take_seven_bits(file, tmp_path):
    """Sums of eight saturate where a processor adds pairs of products in 16 bits."""
    quantise(file, tmp_path / "int8.onnx", IMAGES)
    weights = [onnx.numpy_helper.to_array(item) for item in onnx.load(tmp_path / "int8.onnx").graph.initializer]
    found = [item for item in weights if item.dtype == np.int8 and item.size > 8]
    assert len(found) == 2
    assert all(np.abs(item.astype(int)).max() <= 64 for item in found)


def test_the_images_set_the_ranges(file, tmp_path):
    quantise(file, tmp_path / "narrow.onnx", IMAGES * 0.01)
    quantise(file, tmp_path / "fitting.onnx", IMAGES)
    wanted = logits(file, IMAGES)
    narrow, fitting = (abs(logits(tmp_path / name, IMAGES) - wanted).max() for name in ("narrow.onnx", "fitting.onnx"))
    assert narrow > 3 * fitting


def test_a_file_says_its_precision(file, tmp_path):
    quantise(file, tmp_path / "int8.onnx", IMAGES)
    assert (precision_of(file), precision_of(tmp_path / "int8.onnx")) == ("fp32", "int8")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(FileError, match=r"cannot read .*bad\.onnx"):
        operators_of(tmp_path / "bad.onnx")


def test_what_cannot_be_quantised_is_one_line(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(FileError, match="cannot be quantised to int8") as caught:
        quantise(tmp_path / "bad.onnx", tmp_path / "out.onnx", IMAGES)
    assert "\n" not in str(caught.value)


def test_a_module_is_run_in_int8_and_a_file_only_in_its_own_precision(file, tmp_path):
    model = Small().eval()
    found = runtime("onnxruntime").prepare(model, IMAGES[:2], INT8)()[0]
    wanted = model(IMAGES[:2]).detach().numpy()
    assert 0 < abs(found - wanted).max() < 0.02
    quantise(file, tmp_path / "int8.onnx", IMAGES)
    assert len(runtime("onnxruntime").prepare(tmp_path / "int8.onnx", IMAGES[:1], INT8)()[0]) == 1
    with pytest.raises(MeasurementError, match=r"model\.onnx is fp32, and target .*int8"):
        runtime("onnxruntime").prepare(file, IMAGES, INT8)
    with pytest.raises(MeasurementError, match=r"int8\.onnx is int8, and target .*fp32"):
        runtime("onnxruntime").prepare(tmp_path / "int8.onnx", IMAGES, Target(runtime="onnxruntime"))
