"""Copying definitions out of modules: what comes along, what is renamed, what is refused."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nas.errors import FileError
from nas.results.inline import Inliner
from nas.search_spaces.registry import _REGISTRY, operators

Write = Callable[..., str]
_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules written by these tests may announce operators; nobody else shall meet them."""
    list(operators())
    monkeypatch.setattr("nas.search_spaces.registry._REGISTRY", dict(_REGISTRY))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules into a fresh package and returns its name."""
    name = f"alien{next(_NUMBERS)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**modules: str) -> str:
        for module, text in modules.items():
            (tmp_path / name / f"{module}.py").write_text(text.replace("PKG", name))
        importlib.invalidate_caches()
        return name

    yield write
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def inline(package: str, *wanted: str) -> tuple[dict[str, Any], str, list[str]]:
    """Run the copy of `module.name`s; returns its namespace, its text, and what each is called there."""
    inliner = Inliner({package})
    called = [inliner.use(f"{package}.{path.partition('.')[0]}", path.partition(".")[2]) for path in wanted]
    text = f"from __future__ import annotations\n\n{inliner.imports()}\n\n\n{inliner.body(lambda _: '')}"
    space: dict[str, Any] = {"__name__": "copied"}
    exec(compile(text, "copied", "exec"), space)
    return space, text, called


def test_two_constants_of_one_statement_come_along(package: Write) -> None:
    name = package(a="STEP, REACH = 4, 7\nTWICE = 2 * REACH\ndef area(n):\n    return STEP * n + TWICE\n")
    space, text, _ = inline(name, "a.area")
    assert space["area"](2) == 22
    assert text.count("STEP, REACH = 4, 7") == 1


def test_helpers_of_helpers_come_along_and_the_rest_stays(package: Write) -> None:
    name = package(
        a="from PKG.b import twice\nUNUSED = 1\ndef four(x):\n    return twice(twice(x))\n",
        b="FACTOR = 2\ndef twice(x):\n    return FACTOR * x\ndef other():\n    return 0\n",
    )
    space, text, _ = inline(name, "a.four")
    assert space["four"](3) == 12
    assert "UNUSED" not in text
    assert "other" not in text


def test_helpers_of_one_name_are_told_apart(package: Write) -> None:
    name = package(
        a="def _pad(x):\n    return x + 1\ndef first(x):\n    return _pad(x)\n",
        b="def _pad(x):\n    return x + 10\nclass Second:\n    def run(self, x, how=_pad):\n        return how(x) + _pad(0)\n",
    )
    space, text, _ = inline(name, "a.first", "b.Second")
    assert space["first"](0) == 1
    assert space["Second"]().run(0) == 20
    assert "_pad_b" in text


def test_imports_of_one_name_are_told_apart(package: Write) -> None:
    name = package(
        a="from math import floor as f\ndef first(x):\n    return f(x)\n",
        b="from math import ceil as f\ndef second(x):\n    return f(x)\n",
    )
    space, _, _ = inline(name, "a.first", "b.second")
    assert (space["first"](0.5), space["second"](0.5)) == (0, 1)


def test_a_definition_never_shadows_a_builtin_that_another_uses(package: Write) -> None:
    name = package(
        a="def sum(x):\n    return 'mine'\ndef first(x):\n    return sum(x)\n",
        b="def second(x):\n    return sum(x)\n",
    )
    space, _, _ = inline(name, "a.first", "b.second")
    assert (space["first"]([1, 2]), space["second"]([1, 2])) == ("mine", 3)


def test_names_bound_inside_are_left_alone(package: Write) -> None:
    name = package(
        a="k = 1\ndef first():\n    return k\n",
        b="k = 5\ndef second(xs):\n    inner = [k for k in xs]\n    return inner, k, (lambda k: k)(7)\n",
    )
    space, text, _ = inline(name, "a.first", "b.second")
    assert space["first"]() == 1
    assert space["second"]([1, 2]) == ([1, 2], 5, 7)
    assert "[k for k in xs]" in text


def test_what_is_needed_on_import_stands_first(package: Write) -> None:
    name = package(a="def use():\n    return B().go()\nclass A:\n    def go(self):\n        return B\nclass B(A):\n    pass\n")
    name2 = package(c="from PKG.d import BASE\nclass C(BASE[0]):\n    pass\n", d="class Z:\n    pass\nBASE = (Z,)\n")
    space, _, _ = inline(name, "a.use")
    assert space["use"]() is space["B"]
    assert inline(name2, "c.C")[0]["C"].__mro__[1].__name__ == "Z"


def test_a_name_of_an_imported_module_is_copied_and_called_plainly(package: Write) -> None:
    name = package(
        a="from PKG import b\nx = b.half(4)\ndef first():\n    return b.half(x)\n", b="def half(x):\n    return x / 2\n"
    )
    space, text, _ = inline(name, "a.first")
    assert space["first"]() == 1
    assert "b.half" not in text


def test_names_passed_on_by_a_third_module_are_found(package: Write) -> None:
    name = package(
        a="from PKG.b import go\ndef first():\n    return go()\n",
        b="from PKG.c import run as go\n",
        c="def run():\n    return 9\n",
    )
    assert inline(name, "a.first")[0]["first"]() == 9


def test_comments_and_non_ascii_text_survive(package: Write) -> None:
    name = package(
        a="from PKG.b import g as γ\n# why it is so\nclass A:\n    ε = 'äö'; x = γ('é')  # kept\n",
        b="def g(x):\n    return x\n",
    )
    space, text, _ = inline(name, "a.A")
    assert "# why it is so" in text
    assert "# kept" in text
    assert (space["A"].ε, space["A"].x) == ("äö", "é")


def test_registration_and_search_attributes_are_cut_out(package: Write) -> None:
    name = package(
        a=(
            "from typing import ClassVar\nfrom nas.search_spaces.registry import Kind, register\n"
            "def keep(c):\n    c.kept = True\n    return c\n"
            "# a note\n@register(\n    'x', Kind.NORM,\n    cite='',\n)\n@keep\nclass A:\n    '''Doc.'''\n\n"
            "    # why\n    centred: ClassVar[dict[str, int]] = {}\n\n    def go(self):\n        return 1\n"
            "class B:\n    centred = {}\n"
        )
    )
    space, text, _ = inline(name, "a.A", "a.B")
    assert space["A"].kept
    assert space["A"]().go() == 1
    assert not hasattr(space["B"], "centred")
    assert "# a note" in text
    assert not any(word in text for word in ("register", "centred", "ClassVar", "# why"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("import numpy as np\ndef f(x):\n    return np.abs(x)\n", "numpy"),
        ("from numpy import abs\ndef f(x):\n    return abs(x)\n", "numpy"),
        ("def f(x):\n    import numpy\n    return numpy.abs(x)\n", "numpy"),
        ("X = 1\nX = 2\ndef f():\n    return X\n", "assigned twice"),
        ("def f():\n    return nowhere\n", "nowhere"),
        ("from PKG import other\ndef f():\n    return vars(other)\n", "module 'other'"),
        ("from PKG.other import *\ndef f():\n    return star\n", "star"),
    ],
)
def test_what_cannot_be_copied_is_refused(package: Write, text: str, complaint: str) -> None:
    name = package(a=text, other="star = 1\n")
    with pytest.raises(FileError, match=complaint):
        inline(name, "a.f")


def test_a_rename_that_would_catch_a_local_name_is_refused(package: Write) -> None:
    name = package(a="def p(x):\n    return x\n", b="def p(x):\n    return -x\ndef f(p_b):\n    return p(p_b)\n")
    with pytest.raises(FileError, match="p_b"):
        inline(name, "a.p", "b.f")


def test_methods_see_the_module_where_a_class_attribute_has_the_same_name(package: Write) -> None:
    name = package(a="size = 1\nclass A:\n    size = 2\n    def go(self):\n        return size, self.size\n")
    assert inline(name, "a.A")[0]["A"]().go() == (1, 2)
