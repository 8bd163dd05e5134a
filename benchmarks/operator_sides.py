"""The two sides of a comparison: our operator, and timm's or the official module with the same settings."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.resources
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.search_spaces.registry import Kind, Operator, Value, operator

CLASSES = 1000
"""Of heads."""


class NotRunnableError(Exception):
    """The other side cannot be run on this machine; the message says what it lacks."""


@dataclass(frozen=True)
class Here:
    """Where a case is built: channels, side of the map, our settings, which are read as `here["heads"]`, and, of a stem or
    downsample, the channels that come in.
    """

    width: int
    size: int
    settings: Mapping[str, Value]
    in_width: int = 0

    @property
    def channels(self) -> int:
        """Those of the map that is read."""
        return self.in_width or self.width

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]


Build = Callable[[Any, Here], nn.Module]
Call = Callable[[Any, Tensor, Here], Any]


def plainly(module: Any, x: Tensor, here: Here) -> Any:
    """module(x)."""
    return module(x)


@dataclass(frozen=True)
class Case:
    """One operator at a published place, and the module it is compared with.

    `where` is `package.module:Class` or `owner/name:path/to/file.py:Class`; without a class, `build` gets the module. What
    stands behind " with " is for readers: the official forms that `build` puts in the place of kernels for GPUs. `layout`
    is how the other side holds a map: nhwc, nchw or tokens. `skips` residual additions that cannot be taken out of the other
    side are done on our side too. `row`: the map is a row of `size` tokens, a class token first. `at_64` are settings that
    the memory measurement needs changed for 64 channels on a 56x56 map; stems, downsamples and heads are measured at their
    published places. `in_width`: the channels that a stem or downsample reads, `size` being the side of the map that it reads.
    `training`: the other side does the same in training as in inference. `slow` and `heavy` say why a ratio is above its limit.
    """

    name: str
    operator: str
    width: int
    size: int
    settings: Mapping[str, Value]
    where: str
    build: Build
    layout: str = "nchw"
    call: Call = plainly
    skips: int = 0
    kind: Kind = Kind.TOKEN_MIXER
    in_width: int = 0
    row: bool = False
    at_64: Mapping[str, Value] = field(default_factory=dict)
    memory: bool = True
    training: bool = True
    slow: str = ""
    heavy: str = ""

    def here(self) -> Here:
        """The published place."""
        return Here(self.width, self.size, self.settings, self.in_width)

    def small(self) -> Here:
        """The place of the memory measurement: 64 channels, 56 x 56 pixels."""
        if self.in_width or self.kind == Kind.HEAD:
            return self.here()
        settings = {**self.settings, **self.at_64}
        if 64 % int(settings.get("heads", 1)):
            settings["heads"] = 2
        return Here(64, 56 * 56 + 1 if self.row else 56, settings)


class Side(nn.Module):
    """A module behind forward(x) with x in its own layout; `skips` times x is added to what it gives.

    In training what has another shape than x is summed up, so that a block can add it to x.
    """

    def __init__(
        self, module: nn.Module, layout: str, here: Here, call: Call = plainly, skips: int = 0, *, row: bool = False
    ) -> None:  # fmt: skip
        super().__init__()
        self.module, self.layout, self.here, self.call, self.skips, self.row = module, layout, here, call, skips, row

    def forward(self, x: Tensor) -> Tensor:
        """A tensor in the layout of x."""
        y = self.call(self.module, x, self.here)
        y = y[0] if isinstance(y, tuple | list) else y
        for _ in range(self.skips):
            y = x + y
        out: Tensor = y.sum() if self.training and y.shape != x.shape else y
        return out

    def input(self, batch: int) -> Tensor:
        """A random map of the side's layout."""
        width, rows, columns = self.here.channels, 1 if self.row else self.here.size, self.here.size
        shapes = {
            "nhwc": (batch, rows, columns, width),
            "nchw": (batch, width, rows, columns),
            "tokens": (batch, rows * columns, width),
        }
        return torch.randn(shapes[self.layout], generator=torch.Generator().manual_seed(0))

    def norm(self) -> nn.Module:
        """The norm that a block would have before it: over channels, or the one that keeps as much in the NCHW layout."""
        width = self.here.channels
        return nn.GroupNorm(1, width) if self.layout == "nchw" else nn.LayerNorm(width)


def ours(kind: Kind, name: str, here: Here, skips: int = 0, *, row: bool = False) -> Side:
    """Our operator; what it reads beside x, where it reads something, is random."""
    found = operator(kind, name)
    found.check(here.settings, here.width, here.size)

    def call(module: Any, x: Tensor, here: Here) -> Any:
        beside = {"significance": lambda: (x[..., :1],), "context": lambda: (x,), "history": lambda: (x,)}.get(found.side)
        return module(x, *(beside() if beside else ()))

    layout = "nchw" if kind == Kind.STEM else "nhwc"
    return Side(constructed(found, here), layout, here, call, skips, row=row)


def constructed(found: Operator, here: Here) -> nn.Module:
    """Our operator of any kind but a residual."""
    size = (here.size,) if found.sized or found.kind in (Kind.TOKEN_MIXER, Kind.CHANNEL_MIXER, Kind.HEAD) else ()
    places = {
        Kind.NORM: (here.width,),
        Kind.STEM: (here.in_width, here.width, *size),
        Kind.DOWNSAMPLE: (here.in_width, here.width, *size),
        Kind.HEAD: (partial(nn.LayerNorm, eps=1e-6), here.width, *size, CLASSES),
    }
    return found.module(*places.get(found.kind, (here.width, *size)), **here.settings)


def theirs(case: Case, here: Here, official: Path | None) -> Side:
    """The other side. Raises NotRunnableError with what is missing."""
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with silence[0], silence[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = case.build(load(case.where, official), here)
    except (ImportError, AttributeError, TypeError, FileNotFoundError) as error:
        raise NotRunnableError(f"{type(error).__name__}: {error}") from error
    return Side(module, case.layout, here, case.call, row=case.row)


def load(where: str, official: Path | None) -> Any:
    """The class or module that `where` names, of an installed package or of a checkout under `official`."""
    source, _, rest = where.partition(" with ")[0].partition(":")
    if "/" not in source:
        declare_torchvision()
        module = importlib.import_module(source)
        return getattr(module, rest) if rest else module
    if official is None:
        raise NotRunnableError(f"needs --official with a checkout of {source}")
    path, _, name = rest.partition(":")
    file = official / source.replace("/", "+") / path
    if not file.exists():
        raise NotRunnableError(f"needs a checkout of {source} in {file.parents[len(Path(path).parts) - 1]}")
    declare_torchvision()
    module = import_file(file, len(Path(path).parts))
    return getattr(module, name) if name else module


def declare_torchvision() -> None:
    """timm imports torchvision, which needs the names of operators that a CPU build did not compile."""
    for name in ("nms", "qnms", "roi_align", "qroi_align", "ps_roi_align", "roi_pool", "ps_roi_pool", "deform_conv2d"):
        for each in (name, f"_{name}_backward"):
            if not hasattr(torch.ops.torchvision, each):
                torch.library.define(f"torchvision::{each}", "(Tensor x) -> Tensor")


def import_file(file: Path, depth: int) -> types.ModuleType:
    """A file of a checkout as a module, its siblings importable, packages that are not installed absent until they are used.

    Statement by statement: one that this environment's versions refuse leaves its imported names absent, for most files hold
    whole models around the class that is wanted. Modules of the checkout are forgotten afterwards: several have a `models`.
    """
    package = file.parent
    while (package / "__init__.py").exists():
        package = package.parent
    module = types.ModuleType(".".join(file.relative_to(package).with_suffix("").parts))
    module.__file__, module.__package__ = str(file), module.__name__.rpartition(".")[0]
    roots = [str(file.parent), str(package), str(file.parents[depth - 1])]
    for name in KNOWN:
        with contextlib.suppress(ImportError):  # before what they try to import is absent instead of missing
            importlib.import_module(name)
    before = set(sys.modules)
    with absent_packages(), on_path(roots):
        sys.modules[module.__name__] = module
        body = ast.parse(file.read_text(encoding="utf-8", errors="replace")).body
        for statement in body:
            _execute(statement, module)
        for statement in body:  # imports that go in a circle, now that the rest is there
            if isinstance(statement, ast.ImportFrom) and statement.level:
                _execute(statement, module)
    for name in [each for each in sys.modules if each not in before and _foreign(sys.modules[each], roots[-1])]:
        del sys.modules[name]
    return module


def _foreign(module: types.ModuleType, root: str) -> bool:
    """Whether a module is of a checkout, or absent."""
    folder = next(iter(getattr(module, "__path__", ())), "")
    return isinstance(module, Absent) or (getattr(module, "__file__", None) or folder).startswith(root)


def _execute(statement: ast.stmt, module: types.ModuleType) -> None:
    """One statement of a module; the names of an import that fails become absent."""
    try:
        exec(compile(ast.Module([statement], []), str(module.__file__), "exec"), vars(module))
    except (Exception, SystemExit):  # whatever foreign code raises: the class that is wanted may do without this statement
        if not isinstance(statement, ast.Import | ast.ImportFrom):
            return
        for alias in statement.names:
            if len(statement.names) > 1:
                one = ast.Import([alias]) if isinstance(statement, ast.Import) else _only(statement, alias)
                _execute(ast.copy_location(one, statement), module)
            else:
                name = alias.asname or alias.name.partition(".")[0]
                vars(module).setdefault(name, Absent(f"{getattr(statement, 'module', None) or alias.name}.{name}"))


def _only(statement: ast.ImportFrom, alias: ast.alias) -> ast.ImportFrom:
    """The import of one of the names."""
    return ast.ImportFrom(statement.module, [alias], statement.level)


@contextlib.contextmanager
def on_path(roots: Sequence[str]) -> Iterator[None]:
    """The folders first in the search path."""
    sys.path[:0] = roots
    try:
        yield
    finally:
        for root in roots:
            sys.path.remove(root)


class Absent(types.ModuleType):
    """A module, class or function of a package that is not installed: importable, usable as a decorator, not callable later."""

    importing = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self.__name__}.{name}")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What was decorated with it; the same again while importing."""
        if not Absent.importing:
            package = self.__name__.split(".")[0]
            raise NotRunnableError(f"needs {WANTED.get(package, package)}")
        decorated = len(arguments) == 1 and not named and isinstance(arguments[0], type | types.FunctionType)
        return arguments[0] if decorated else self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder: gives an `Absent` for what no other finds."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        """Anything but a module that a package of the checkout itself lacks."""
        top = name.partition(".")[0]
        parent = sys.modules.get(name.rpartition(".")[0])
        if parent is not None and not isinstance(parent, Absent) and top not in ("timm", "torch", "torchvision", "numpy"):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An absent module, with the stand-ins of its names."""
        module = Absent(spec.name)
        vars(module).update(STAND_INS.get(spec.name.partition(".")[0], {}))
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


@contextlib.contextmanager
def absent_packages() -> Iterator[None]:
    """Imports of packages that are not installed succeed."""
    finder = _Finder()
    sys.meta_path.append(finder)
    Absent.importing = True
    try:
        yield
    finally:
        Absent.importing = False
        sys.meta_path.remove(finder)


class ConvModule(nn.Sequential):
    """What mmcv's class of this name does with the arguments it is given here: convolution, batch norm, activation."""

    def __init__(self, *sizes: int, norm_cfg: Any = None, act_cfg: Any = None, bias: bool | str = "auto", **named: Any) -> None:
        conv = nn.Conv2d(*sizes, bias=norm_cfg is None if bias == "auto" else bool(bias), **named)
        norm = nn.BatchNorm2d(conv.out_channels) if norm_cfg else nn.Identity()
        super().__init__(conv, norm, activation(act_cfg) if act_cfg else nn.Identity())


def activation(config: Mapping[str, str]) -> nn.Module:
    """The activation that mmcv builds of {"type": name}."""
    found: nn.Module = getattr(nn, config["type"])()
    return found


def _nothing(*arguments: Any, **named: Any) -> None:
    """Weights keep torch's initial values: they do not matter for time and memory."""


def _open_resource(package: str, name: str) -> Any:
    """A file of a package."""
    return importlib.resources.files(package).joinpath(name).open("rb")


STAND_INS: Mapping[str, Mapping[str, Any]] = {
    "mmcv": {
        "ConvModule": ConvModule,
        "build_activation_layer": activation,
        "build_norm_layer": lambda config, width: ("norm", nn.BatchNorm2d(width)),
        "kaiming_init": _nothing,
        "constant_init": _nothing,
    },
    "pkg_resources": {"resource_stream": _open_resource},
}
KNOWN = (
    "timm.models.layers", "timm.models.vision_transformer", "torchvision", "einops", "scipy.stats", "requests", "tabulate",
)  # fmt: skip
"""What official code imports of packages that may be there."""
WANTED = {"natten": "natten up to 0.17.5, the last with kernels for CPUs, built from source"}
"""What is said of an absent package, where its name is not enough."""
