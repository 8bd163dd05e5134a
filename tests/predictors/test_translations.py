"""Operations that reach ONNX as they were traced: right numbers without dividing the graph, and divided where need be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn import functional

from nas.errors import FileError
from nas.predictors.runtimes.onnxruntime import exported, open_session, session_options
from nas.predictors.target import Target
from nas.predictors.tracing import onnx_model, trace_static

TARGET = Target.parse("cpu:onnxruntime")


class Calls(nn.Module):
    """A module of one function, with a weight to read."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.linspace(0.5, 2.0, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Normed(nn.Module):
    """Batch normalisation by statistics that are no default."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, eps=1e-3)
        torch.manual_seed(1)
        for tensor in (self.norm.running_mean, self.norm.weight, self.norm.bias):
            nn.init.normal_(tensor)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def masked(x: Tensor, weight: Tensor) -> Tensor:
    flags = (x > 0) & (x < weight)
    return x * (~flags).to(torch.float32)


def written_into(x: Tensor, weight: Tensor) -> Tensor:
    found = x * weight
    half = found[..., :4]
    half += 1
    return found * 2


UNDIVIDED = {
    "batch_norm": Normed(),
    "rms_norm": Calls(lambda x, weight: functional.rms_norm(x, [8], weight, 1e-2)),
    "both and cast": Calls(masked),
    "softshrink": Calls(lambda x, weight: functional.softshrink(x, 0.3)),
    "square": Calls(lambda x, weight: torch.square(x)),
    "pool_to": Calls(lambda x, weight: functional.adaptive_avg_pool1d(x.flatten(2), 16)),
    "parts": Calls(lambda x, weight: torch.cat(torch.chunk(x * weight, 4, -1)[::-1], -1)),
    "transposed": Calls(lambda x, weight: (x * weight).mT),
    "attention": Calls(lambda x, weight: functional.scaled_dot_product_attention(x, x * weight, x)),
}
DIVIDED = {
    "unequal pools": Calls(lambda x, weight: functional.adaptive_avg_pool1d(x.flatten(2), 10)),
    "unequal parts": Calls(lambda x, weight: torch.cat(torch.chunk(x * weight, 5, -1)[::-1], -1)),
    "one part": Calls(lambda x, weight: torch.chunk(x * weight, 1, -1)[0]),
    "norm without a weight": Calls(lambda x, weight: functional.rms_norm(x, [8], None, 1e-2)),
    "norm over two axes": Calls(lambda x, weight: functional.rms_norm(x, [8, 8], weight.expand(8, 8), 1e-2)),
    "written into": Calls(written_into),
    "frequencies": Calls(lambda x, weight: torch.fft.irfft2(torch.fft.rfft2(x), s=(8, 8)) * weight),
}


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a program is divided into smaller operations."""
    calls: list[str] = []
    divide = ExportedProgram.run_decompositions

    def counted(self: ExportedProgram, table: object) -> ExportedProgram:
        calls.append("divided")
        return divide(self, table)  # type: ignore[arg-type]

    monkeypatch.setattr(ExportedProgram, "run_decompositions", counted)
    return calls


def gives_the_same(model: nn.Module, folder: Path, *, light: bool) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 4, 8, 8)
    exported(model, image, folder / "model.onnx", light=light)
    with torch.no_grad():
        wanted = model.eval()(image).numpy()
    found = open_session(folder / "model.onnx", session_options(TARGET)).run(None, {"image": image.numpy()})[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize("name", UNDIVIDED)
def test_an_operation_is_translated_as_it_was_traced(name: str, light: bool, tmp_path: Path, divided: list[str]) -> None:
    gives_the_same(UNDIVIDED[name], tmp_path, light=light)
    assert not divided


@pytest.mark.parametrize("name", DIVIDED)
def test_what_has_no_translation_is_divided(name: str, tmp_path: Path, divided: list[str]) -> None:
    gives_the_same(DIVIDED[name], tmp_path, light=True)
    assert divided


@pytest.mark.parametrize("name", ["both and cast", "frequencies"])
def test_a_program_stays_as_it_is(name: str) -> None:
    """The file of torch.export is written from the same one, and a network is divided where translating it failed."""
    program = trace_static({**UNDIVIDED, **DIVIDED}[name].eval(), torch.randn(1, 4, 8, 8))
    before = str(program.graph)
    onnx_model(program)
    assert str(program.graph) == before


def test_what_has_no_form_at_all_is_one_line() -> None:
    program = trace_static(Calls(lambda x, weight: torch.linalg.svdvals(x) + weight).eval(), torch.randn(1, 4, 8, 8))
    with pytest.raises(FileError, match=r"^the network has no ONNX form: .*; leave out 'onnx'$"):
        onnx_model(program)
