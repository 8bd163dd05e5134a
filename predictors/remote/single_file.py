"""The agent as one Python file that needs neither this package nor PyTorch, to be copied to a device."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from nas.errors import FileError

ENTRY = "nas.predictors.remote.agent.main"
OURS = "nas."
HEADER = '''"""The measuring agent of nas, in one file: python agent.py --listen HOST:PORT --secret-file FILE

Written by `nas agent --write`. It needs Python 3.10 or later, numpy, and the runtime that is measured: nothing else. It
measures the exported networks that `nas profile` and `nas search` hand in. docs/agent.md of nas tells more.
"""

from __future__ import annotations
'''


def agent_source(entry: str = ENTRY) -> str:
    """The source of the agent's main module and of all modules of ours that it imports, one after another.

    The modules must import names of each other with `from ... import ...`, under the names they have, and no two may define
    the same name. Raises FileError where they do not.
    """
    modules = list(_in_order(entry, []))
    imports: dict[str, None] = {}
    owner: dict[str, str] = {}
    parts = []
    for module in modules:
        source = _path(module).read_text(encoding="utf-8")
        statements = [statement for statement in ast.parse(source).body if not _dropped(statement)]
        outside = [statement for statement in statements if isinstance(statement, ast.Import | ast.ImportFrom)]
        imports.update(dict.fromkeys(line for statement in outside for line in _import_lines(statement, module)))
        own = [statement for statement in statements if statement not in outside]
        for name in (name for statement in own for name in _defined(statement)):
            if owner.setdefault(name, module) != module:
                raise FileError(f"{name} is defined by {owner[name]} and by {module}; the agent's file needs it once")
        parts.append(f"# {module}\n\n" + "\n\n".join(_with_comments(source, statement) for statement in own))
    return "\n".join([HEADER, *sorted(imports), "\n", "\n\n\n".join(parts), ""])


def _in_order(module: str, seen: list[str]) -> Iterator[str]:
    """The module's imports of ours, in the order in which Python would run them, then itself."""
    if module in seen:
        return
    seen.append(module)
    for statement in ast.parse(_path(module).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(OURS):
            yield from _in_order(str(statement.module), seen)
    yield module


def _path(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise FileError(f"the source of {module} cannot be found; install nas from its files")
    return Path(found.origin)


def _dropped(statement: ast.stmt) -> bool:
    """Docstrings, imports of ours and from the future, and what only type checkers see."""
    if isinstance(statement, ast.ImportFrom):
        return str(statement.module) == "__future__" or str(statement.module).startswith(OURS)
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) == "TYPE_CHECKING"
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _import_lines(statement: ast.Import | ast.ImportFrom, module: str) -> Iterator[str]:
    """One line for each name. `Self` stands in annotations alone, and Python 3.10 has none."""
    for alias in statement.names:
        if alias.asname is not None and isinstance(statement, ast.ImportFrom):
            raise FileError(f"{module} imports {alias.name} as {alias.asname}; the agent's file needs it under its own name")
        name = alias.name if alias.asname is None else f"{alias.name} as {alias.asname}"
        if isinstance(statement, ast.Import):
            yield f"import {name}"
        elif alias.name not in ("Self", "TYPE_CHECKING"):
            yield f"from {statement.module} import {name}"


def _defined(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _with_comments(source: str, statement: ast.stmt) -> str:
    """The statement as it is written, with its decorators and comments."""
    lines = source.splitlines()
    decorators = getattr(statement, "decorator_list", [])
    first = min([statement.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(lines[first - 1 : statement.end_lineno])
