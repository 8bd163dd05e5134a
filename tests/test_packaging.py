"""What is installed: every package on the disk, and layers that import one way."""

from __future__ import annotations

import ast
import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("search_spaces", "supernet", "predictors", "search", "results")
SOURCES = {"nas": ROOT / "src" / "nas", **{f"nas.{layer}": ROOT / layer for layer in LAYERS}}
FOUNDATIONS = {"nas.errors", "nas.quantities", "nas.files", "nas.plugins", "nas.progress"}
"""Modules that import nothing above the standard library and each other."""
MAY_IMPORT = {
    "search_spaces": {"search_spaces"},
    "supernet": {"search_spaces", "supernet"},
    "predictors": {"search_spaces", "predictors"},
    "search": {"search_spaces", "supernet", "predictors", "search"},
    "results": {"search_spaces", "supernet", "predictors", "search", "results"},
}


def packages() -> dict[str, Path]:
    """Every folder with an `__init__.py`, by the name it is imported under."""
    return {
        ".".join((name, *init.parent.relative_to(folder).parts)): init.parent
        for name, folder in SOURCES.items()
        for init in folder.rglob("__init__.py")
    }


def modules() -> dict[str, Path]:
    return {
        f"{name}.{file.stem}" if file.stem != "__init__" else name: file
        for name, folder in packages().items()
        for file in folder.glob("*.py")
    }


def setuptools() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The absolute names that a file imports anywhere, with their lines; `from a import b` gives `a.b` too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def test_pyproject_lists_every_package_of_the_disk() -> None:
    assert sorted(setuptools()["packages"]) == sorted(packages())


def test_pyproject_maps_every_package_to_its_folder() -> None:
    mapping = setuptools()["package-dir"]
    for name, folder in packages().items():
        parent = max((known for known in mapping if name == known or name.startswith(known + ".")), key=len)
        rest = name.removeprefix(parent).strip(".").split(".")
        assert ROOT.joinpath(mapping[parent], *filter(None, rest)) == folder, name
    assert all((ROOT / folder).is_dir() for folder in mapping.values())


def test_every_python_file_of_a_layer_is_inside_a_package() -> None:
    known = set(packages().values())
    for folder in SOURCES.values():
        assert not [file for file in folder.rglob("*.py") if file.parent not in known]


def test_the_typing_marker_is_shipped() -> None:
    assert "py.typed" in setuptools()["package-data"]["nas"]
    assert (SOURCES["nas"] / "py.typed").is_file()


@pytest.mark.parametrize("name", sorted(packages()))
def test_every_module_can_be_imported_under_its_name(name: str) -> None:
    for module, file in modules().items():
        if module.rpartition(".")[0] == name or module == name:
            found = importlib.import_module(module)
            assert Path(found.__file__).resolve() == file


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_import_one_way(layer: str) -> None:
    allowed = {f"nas.{name}" for name in MAY_IMPORT[layer]} | FOUNDATIONS
    for name, file in modules().items():
        if name == f"nas.{layer}" or name.startswith(f"nas.{layer}."):
            for line, wanted in imports(file):
                if wanted == "nas" or wanted.startswith("nas."):
                    assert any(wanted == one or wanted.startswith(one + ".") for one in allowed), f"{file}:{line} {wanted}"


@pytest.mark.parametrize("name", sorted(FOUNDATIONS))
def test_foundations_import_no_layer(name: str) -> None:
    for line, wanted in imports(modules()[name]):
        assert not wanted.startswith("nas.") or wanted.rpartition(".")[0] in FOUNDATIONS, f"{name}:{line} {wanted}"


def test_nothing_imports_the_command_line() -> None:
    for name, file in modules().items():
        if name != "nas.__main__" and not name.startswith("nas.cli"):
            assert not [line for line, wanted in imports(file) if wanted.startswith("nas.cli")], name


def test_nobody_imports_a_layer_by_its_folder() -> None:
    files = [*modules().values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    for file in files:
        for line, wanted in imports(file):
            assert wanted.split(".")[0] not in LAYERS, f"{file}:{line} imports {wanted}: write nas.{wanted}"
