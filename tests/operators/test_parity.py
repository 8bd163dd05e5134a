"""Every registered operator against the naive reference in its own file, and against itself under other conditions."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas.search_spaces.graph import emitted_shape
from nas.search_spaces.registry import Kind, Operator, Settings, operators

WIDTH, SIZES = 16, (4, 9)
OTHER_MAPS = ((5, 3), (1, 1))
EVERY = list(operators())
MIXERS = [op for op in EVERY if op.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER)]


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def name_of(op: Operator) -> str:
    return f"{op.kind}-{op.name}"


def reference_of(op: Operator) -> Callable[[nn.Module, Tensor], Tensor]:
    return importlib.import_module(op.module.__module__).reference


def build(op: Operator, settings: Settings = (), *, width: int = WIDTH, size: int = 4) -> nn.Module:
    """The operator with parameters and running statistics that are all different from their defaults."""
    match op.kind:
        case Kind.NORM:
            arguments: tuple[Any, ...] = (width,)
        case Kind.STEM | Kind.DOWNSAMPLE:
            widths = (3 if op.kind == Kind.STEM else width // 2, width)
            arguments = (*widths, size * unit(op, settings)) if op.sized else widths
        case Kind.RESIDUAL:
            arguments = (nn.LayerNorm(width), nn.Linear(width, width), width)
        case Kind.HEAD:
            arguments = (nn.LayerNorm, width, size, 5)
        case _:
            arguments = (width, size)
    module = op.module(*arguments, **dict(settings))
    for tensor in (*module.parameters(), *(b for n, b in module.named_buffers() if n.endswith(("_mean", "_var")))):
        tensor.data.add_(torch.rand_like(tensor.data) * 0.5)
    return module


def unit(op: Operator, settings: Settings) -> int:
    """The side of the smallest square map that the operator gives a position of."""
    return next(side for side in (1, 2, 4, 8, 16, 32, 64) if min(op.map_after(side, side, settings)) > 0)


def whole(out: Tensor | tuple[Tensor, ...]) -> Tensor:
    """What an operator returns, with what it emits beside its map behind that."""
    return torch.cat([part.flatten(1) for part in out], dim=1) if isinstance(out, tuple) else out


def beside(op: Operator, x: Tensor, settings: Settings) -> tuple[Tensor, ...]:
    """What an operator may read beside x."""
    given = op.complete(settings)
    shapes = {"history": [tuple(x.shape)] * 3, "context": [tuple(x.shape)]}
    if op.side == "overview":
        shapes["overview"] = [(*x.shape[:3], int(given.get("carried", WIDTH - x.shape[3])))]
    elif op.side not in shapes:
        shapes[op.side] = [(len(x), *emitted_shape(op.side, tuple(x.shape[1:]), given))] * int(given.get("depth", 1))
    return tuple(torch.randn(shape) for shape in shapes[op.side])


def sample(op: Operator, height: int, width: int, channels: int = WIDTH, batch: int = 2) -> Tensor:
    if op.kind == Kind.STEM:
        return torch.randn(batch, 3, height, width)
    return torch.randn(batch, height, width, channels // 2 if op.kind == Kind.DOWNSAMPLE else channels)


def covering(every: tuple[Settings, ...]) -> list[Settings]:
    """The first and the last settings, and more until each value of each setting occurs."""
    chosen = list(dict.fromkeys((*every[:1], *every[-1:])))
    for settings in every:
        if set(settings) - {pair for done in chosen for pair in done}:
            chosen.append(settings)
    return chosen


def parity_cases() -> Iterator[object]:
    """Every value of every setting on small maps; on larger ones, whose references take long, `make test` sees one of each."""
    for op in EVERY:
        for size in SIZES:
            if op.kind in (Kind.STEM, Kind.DOWNSAMPLE, Kind.NORM) and size != SIZES[0]:
                continue
            maps = ((size, size), *OTHER_MAPS[: 1 if size > 4 else 2])
            cases = [(settings, maps) for settings in covering(op.legal_settings(WIDTH, size))]
            cases += [(settings, OTHER_MAPS[:1]) for settings in op.variants(WIDTH, size) if size == SIZES[0]]
            for place, (settings, shapes) in enumerate(cases):
                label = ",".join(f"{k}={v}" for k, v in settings)
                marks = [pytest.mark.thorough] if size != SIZES[0] and place > 0 else []
                yield pytest.param(op, size, settings, shapes, id=f"{name_of(op)}-{size}-{label}", marks=marks)


def assert_same(op: Operator, module: nn.Module, x: Tensor, side: tuple[Tensor, ...] = ()) -> Tensor:
    """Output, gradient of the input, and gradients of all parameters are the reference's, whose output is returned."""
    results = []
    probe = None
    for function in (module, lambda y, *rest: reference_of(op)(module, y, *rest)):
        leaf = x.detach().clone().requires_grad_()
        out = whole(function(leaf, *side))
        probe = torch.randn_like(out) if probe is None else probe
        names, parameters = zip(*module.named_parameters(), strict=True) if any(True for _ in module.parameters()) else ((), ())
        gradients = torch.autograd.grad((out * probe).sum(), (leaf, *parameters))
        results.append({"output": out, "input": gradients[0], **dict(zip(names, gradients[1:], strict=True))})
    for name, expected in results[1].items():
        torch.testing.assert_close(results[0][name], expected, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    return results[1]["output"].detach()


@pytest.mark.parametrize(("op", "size", "settings", "shapes"), list(parity_cases()))
def test_output_and_all_gradients_equal_the_reference(
    op: Operator, size: int, settings: Settings, shapes: tuple[tuple[int, int], ...]
) -> None:
    module = build(op, settings, size=size)
    smallest = max(4, unit(op, settings)) if op.kind in (Kind.STEM, Kind.DOWNSAMPLE) else 1
    for height, width in shapes:
        x = sample(op, max(height, smallest), max(width, smallest))
        expected = assert_same(op, module.train(), x)
        if any(isinstance(part, nn.BatchNorm2d) for part in module.modules()):
            expected = assert_same(op, module.eval(), x)
        with torch.no_grad():  # what is computed another way without gradients, or in evaluation, is the same
            torch.testing.assert_close(whole(module.eval()(x)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op", [op for op in EVERY if op.side], ids=name_of)
def test_what_is_read_beside_the_map_is_used_as_in_the_reference(op: Operator) -> None:
    for settings in (*covering(op.legal_settings(WIDTH, 6)), *op.variants(WIDTH, 6)):
        module, x = build(op, settings, size=6).eval(), sample(op, 6, 5)
        side = beside(op, x, settings)
        assert_same(op, module, x, side)
        with torch.no_grad():
            assert not torch.allclose(whole(module(x, *side)), whole(module(x)))


@pytest.mark.parametrize(
    ("settings", "height", "width"),
    [
        ({"heads": 2, "kernel": 3, "dilation": 1}, 13, 17),
        ({"heads": 1, "kernel": 3, "dilation": 2}, 27, 6),
        ({"heads": 2, "kernel": 7, "dilation": 1}, 25, 3),
        ({"heads": 1, "kernel": 5, "dilation": 3}, 5, 53),
    ],
)
def test_tiled_neighbourhoods_equal_the_reference(settings: dict[str, int], height: int, width: int) -> None:
    (op,) = (op for op in EVERY if op.name == "neighbourhood_attention")
    module = build(op, tuple(settings.items()), width=8, size=21)
    assert_same(op, module, sample(op, height, width, channels=8, batch=1))


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_every_legal_setting_gives_the_declared_shape_on_any_map(op: Operator) -> None:
    torch.set_default_dtype(torch.float32)
    for width, size in ((32, 14), (24, 5), (8, 1)):
        for settings in (*op.legal_settings(width, size), *op.variants(width, size)):
            module = build(op, settings, width=width, size=size)
            for height, columns in ((size, size), (7, 10), (2, 3), (1, 1)):
                rows, cells = height * unit(op, settings), columns * unit(op, settings)
                with torch.no_grad():
                    out = module(sample(op, rows, cells, channels=width))
                declared = (*op.map_after(rows, cells, settings), width)
                shapes = [(2, 5) if op.kind == Kind.HEAD else (2, *declared)]
                if op.emits:
                    shapes.append((2, *emitted_shape(op.emits, declared, op.complete(settings))))
                found = out if isinstance(out, tuple) else (out,)
                assert [part.shape for part in found] == shapes, f"{op.name} {settings} on {height}x{columns}"
                assert whole(out).isfinite().all()


def resolution_free(op: Operator) -> bool:
    settings = op.legal_settings(WIDTH, 9)[0]
    small, large = (op.module(WIDTH, size, **dict(settings)).parameters() for size in (9, 21))
    return all(p.shape == q.shape for p, q in zip(small, large, strict=True))


@pytest.mark.parametrize("op", [op for op in MIXERS if resolution_free(op)], ids=name_of)
def test_weights_mean_the_same_whatever_map_size_the_module_was_built_for(op: Operator) -> None:
    for settings in covering(op.legal_settings(WIDTH, 9)):
        small, large = build(op, settings, size=9), build(op, settings, size=21)
        large.load_state_dict(small.state_dict())
        x = sample(op, 21, 21, batch=1)
        torch.testing.assert_close(whole(small.eval()(x)), whole(large.eval()(x)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_memory_layout_of_the_input_does_not_matter(op: Operator) -> None:
    for settings in op.legal_settings(WIDTH, 8)[:1]:
        side = max(8, 2 * unit(op, settings))
        module, x = build(op, settings, size=8).eval(), sample(op, side, side)
        for order in ((3, 2, 1, 0), (0, 3, 1, 2), (0, 2, 3, 1)):
            back = [order.index(dim) for dim in range(4)]
            strided = x.permute(order).contiguous().permute(back)
            torch.testing.assert_close(whole(module(strided)), whole(module(x)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_a_skeleton_with_parameters_on_meta_runs_with_given_parameters(op: Operator) -> None:
    for settings in op.legal_settings(WIDTH, 8)[:1]:
        module, skeleton = build(op, settings, size=8).eval(), build(op, settings, size=8).eval()
        statistics = {name: b for name, b in module.named_buffers() if name.endswith(("_mean", "_var"))}
        for part in skeleton.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    part._parameters[name] = nn.Parameter(parameter.to("meta"))
        assert all(not b.is_meta for b in skeleton.buffers())
        x = sample(op, max(8, 2 * unit(op, settings)), max(8, 2 * unit(op, settings)))
        out = torch.func.functional_call(skeleton, {**dict(module.named_parameters()), **statistics}, (x,))
        assert torch.equal(whole(out), whole(module(x)))


@pytest.mark.parametrize("op", EVERY, ids=name_of)
def test_only_parameters_and_batch_statistics_are_saved(op: Operator) -> None:
    module = build(op, op.legal_settings(WIDTH, 8)[0], size=8)
    saved = set(module.state_dict()) - {name for name, _ in module.named_parameters()}
    assert {name.rpartition(".")[2] for name in saved} <= {"running_mean", "running_var", "num_batches_tracked"}
