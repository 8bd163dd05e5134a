"""Every operator through torch.onnx.export and ONNX Runtime, several in one file to save time."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from nas.predictors.tracing import onnx_model, trace_static
from nas.search_spaces.operators.attention_base import Modifiers
from nas.search_spaces.registry import Kind, Operator, Settings, operator, operators

WIDTH, SIZE, COLUMNS = 16, 8, 11
MIXERS = [op for op in operators() if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]
PARTS, QUARTERS = 16, 4
QUICK, QUICK_QUARTER = (0, 1), 3
"""Parts that `make test` looks at: of the second kind one that has no mixer of the first."""
OTHERS = [op for op in operators() if op not in MIXERS]


def whole(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([part.flatten(1) for part in out], dim=1) if isinstance(out, tuple) else out


class Side(nn.Module):
    """All given modules on one image or map."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(modules)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(whole(part(x)) for part in self.parts.values())


def drawn(op: Operator) -> int:
    """A number that hangs on the operator's name alone, so that no other operator changes what is exported of it."""
    return zlib.crc32(f"{op.kind}-{op.name}".encode())


def build(op: Operator, share: float = 0.5) -> nn.Module:
    """The operator with the settings that stand `share` of the way down the list of its legal ones."""
    every = op.legal_settings(WIDTH, SIZE)
    return construct(op, every[round(share * (len(every) - 1))])


def construct(op: Operator, settings: Settings) -> nn.Module:
    match op.kind:
        case Kind.NORM:
            arguments: tuple[Any, ...] = (WIDTH,)
        case Kind.STEM:
            arguments = (3, WIDTH, 2 * SIZE) if op.sized else (3, WIDTH)
        case Kind.DOWNSAMPLE:
            arguments = (WIDTH, 2 * WIDTH, SIZE) if op.sized else (WIDTH, 2 * WIDTH)
        case Kind.RESIDUAL:
            arguments = (nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), WIDTH)
        case Kind.HEAD:
            arguments = (nn.LayerNorm, WIDTH, SIZE, 10)
        case _:
            arguments = (WIDTH, SIZE)
    module = op.module(*arguments, **dict(settings))
    for parameter in module.parameters():
        parameter.data.add_(torch.rand_like(parameter.data) * 0.2)
    return module.eval()


def assert_runs_the_same(side: Side, x: Tensor) -> None:
    file = io.BytesIO()
    onnx_model(trace_static(side, x)).save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        expected = side(x)
    for name, ours, theirs in zip(side.parts, expected, found, strict=True):
        error = np.abs(ours.numpy() - theirs).max() / np.abs(ours.numpy()).max()
        assert error < 1e-4, f"{name} differs by {error:.1e} of its largest value"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=[] if part in QUICK else [pytest.mark.thorough]) for part in range(PARTS)]
)
def test_mixers_run_in_onnxruntime_as_in_torch(part: int) -> None:
    """Each at its first or its last settings: exporting is slow, and the variants below have others.

    Half of the parts take one image of the size they are built for, half two of another shape.
    """
    torch.manual_seed(0)
    chosen = [op for op in MIXERS if drawn(op) % PARTS == part]
    side = Side({f"{op.kind}_{op.name}": build(op, float(drawn(op) // PARTS % 2)) for op in chosen}).eval()
    assert_runs_the_same(side, torch.randn(1, SIZE, SIZE, WIDTH) if part % 2 else torch.randn(2, SIZE, COLUMNS, WIDTH))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("share", [pytest.param(0.0, marks=pytest.mark.thorough), 1.0])
@pytest.mark.parametrize(
    "part",
    [pytest.param(part, marks=[] if part == QUICK_QUARTER else [pytest.mark.thorough]) for part in range(QUARTERS)],
)
def test_mixers_are_traced_with_a_free_batch_size(share: float, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many channels on a small map: where weights outnumber what they meet, the batch must not decide what is computed."""
    monkeypatch.setattr(sys.modules[__name__], "WIDTH", 64)
    monkeypatch.setattr(sys.modules[__name__], "SIZE", 4)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    bound: dict[str, str] = {}
    for op in (op for op in MIXERS if drawn(op) % QUARTERS == part):
        module = build(op, share)
        try:
            torch.export.export(module, (torch.randn(2, 4, 4, 64),), dynamic_shapes=shapes)
        except Exception as error:
            bound[f"{op.kind} {op.name}"] = str(error)
    assert not bound, "what is computed hangs on the batch size"


def variants(op: Operator) -> list[Settings]:
    """The operator's own optional settings; those of attention on one pattern, half of them in windows, to save time."""
    every = list(op.variants(WIDTH, SIZE))
    if op.name in ("window_attention", "global_attention"):
        return every if op.name == "global_attention" else every[::2]
    return [settings for settings in every if not dict(settings).keys() & Modifiers.__annotations__.keys()]


VARIANT_PARTS = {True: 4, False: 20}
"""How many files the variants of the stems, and of all others, are spread over."""
QUICK_PART = 2
"""The one of these that `make test` looks at; `make test-all` looks at all."""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("stems", "part"),
    [
        pytest.param(stems, part, marks=[] if part == QUICK_PART else [pytest.mark.thorough])
        for stems, parts in VARIANT_PARTS.items()
        for part in range(parts)
    ],
)
def test_variants_run_in_onnxruntime_as_in_torch(stems: bool, part: int) -> None:
    torch.manual_seed(0)
    chosen = [op for op in operators() if (op.kind == Kind.STEM) == stems and drawn(op) % VARIANT_PARTS[stems] == part]
    modules = {f"{op.kind}_{op.name}_{n}": construct(op, each) for op in chosen for n, each in enumerate(variants(op))}
    assert_runs_the_same(Side(modules).eval(), torch.randn(2, 3, 32, 48) if stems else torch.randn(2, SIZE, COLUMNS, WIDTH))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(("batch", "columns"), [pytest.param(1, SIZE, marks=pytest.mark.thorough), (2, COLUMNS)])
def test_shifted_and_dilated_attention_run_in_onnxruntime_as_in_torch(batch: int, columns: int) -> None:
    torch.manual_seed(0)
    window, neighbourhood = (
        operator(Kind.TOKEN_MIXER, name).module for name in ("window_attention", "neighbourhood_attention")
    )
    modules = {
        "shifted": window(WIDTH, SIZE, heads=2, window=4, shift=True),
        "padded": window(WIDTH, SIZE, heads=1, window=7, shift=True),
        "dilated": neighbourhood(WIDTH, SIZE, heads=2, kernel=3, dilation=2),
        "tiled": neighbourhood(WIDTH, SIZE, heads=1, kernel=3, dilation=1),
    }
    assert_runs_the_same(Side(modules).eval(), torch.randn(batch, SIZE, columns, WIDTH))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", [Kind.STEM, Kind.DOWNSAMPLE, Kind.NORM, Kind.RESIDUAL, Kind.HEAD])
def test_other_operators_run_in_onnxruntime_as_in_torch(kind: Kind) -> None:
    torch.manual_seed(0)
    side = Side({op.name: build(op) for op in OTHERS if op.kind == kind}).eval()
    assert_runs_the_same(side, torch.randn(2, 3, 16, 24) if kind == Kind.STEM else torch.randn(2, SIZE, 12, WIDTH))
