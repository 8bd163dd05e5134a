"""Reading Python modules as text: what each top-level name is, and which names of the module a piece of code uses."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from nas.errors import FileError

BUILTINS = frozenset(dir(builtins))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Definition:
    """A top-level class, function or constant, by its module and name there."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Import:
    """`from module import name`, or `import module` where there is no name."""

    module: str
    name: str | None = None

    @property
    def root(self) -> str:
        """The top-level package."""
        return self.module.partition(".")[0]

    @property
    def portable(self) -> bool:
        """Whether torch and Python alone provide it."""
        return self.root == "torch" or self.root in sys.stdlib_module_names


@dataclass(frozen=True, slots=True)
class Reference:
    """A use of a global name; `attribute` is the `name.attribute` around it, `eager` where it runs on import."""

    name: ast.Name
    attribute: ast.Attribute | None
    eager: bool


class Source:
    """One module: its bytes, and the statement or imports behind every top-level name.

    `rebound` holds the names that more than one statement binds, whose value no single statement tells.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        try:
            self.text = inspect.getsource(importlib.import_module(module)).encode()
        except (ImportError, OSError, TypeError) as error:
            raise FileError(
                f"cannot read the source of {module} ({error}); an exported operator needs its Python file"
            ) from error
        self.starts = [0]
        for line in self.text.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.definitions: dict[str, ast.stmt] = {}
        self.rebound: set[str] = set()
        self.imports: dict[str, list[Import]] = {}
        for statement in ast.parse(self.text).body:
            self._index(statement)

    def _index(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING"):
            for inner in statement.body:
                self._index(inner)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name, found in _imports(statement, self.module):
                self.imports.setdefault(name, []).append(found)
        else:
            for name in _bound([statement]):
                if name in self.definitions:
                    self.rebound.add(name)
                self.definitions[name] = statement

    def offset(self, line: int, column: int) -> int:
        """The byte at a position as `ast` counts it: lines from 1, columns in bytes."""
        return self.starts[line - 1] + column


@cache
def source(module: str) -> Source:
    """The parsed module. Raises FileError where it has no source."""
    return Source(module)


def resolve(module: str, name: str, packages: frozenset[str]) -> Definition | list[Import] | None:
    """What a global name of a module means: a definition there, imports, or None where it is neither.

    A name that is imported from a module of `packages` is followed to its definition.
    """
    found = source(module)
    if name in found.definitions:
        return Definition(module, name)
    imports = found.imports.get(name)
    if imports is None or imports[0].root not in packages or is_module(imports[0]):
        return imports
    return resolve(imports[0].module, imports[0].name or "", packages) or imports


def is_module(found: Import) -> bool:
    """Whether `from a import b` names the module a.b."""
    return inspect.ismodule(getattr(importlib.import_module(found.module), found.name, None)) if found.name else True


def references(node: ast.AST) -> Iterator[Reference]:
    """The uses of global names in a piece of code, including those in annotations and decorators."""
    return _walk(node, (), eager=True)


def _walk(node: ast.AST, scopes: tuple[tuple[frozenset[str], bool], ...], *, eager: bool) -> Iterator[Reference]:
    """`scopes` holds the names bound around the node, outermost first, and whether each is a class body."""
    attribute = node if isinstance(node, ast.Attribute) else None
    inner = node if attribute is None else attribute.value
    if isinstance(inner, ast.Name):
        if not _is_local(inner.id, scopes):
            yield Reference(inner, attribute, eager)
    elif isinstance(node, _FUNCTIONS):
        yield from _walk_function(node, scopes, eager=eager)
    elif isinstance(node, ast.ClassDef):
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            yield from _walk(part, scopes, eager=eager)
        within = (*scopes, (frozenset(_bound(node.body)), True))
        for part in node.body:
            yield from _walk(part, within, eager=eager)
    elif isinstance(node, _COMPREHENSIONS):
        targets = frozenset(name for generator in node.generators for name in _targets(generator.target))
        for part in ast.iter_child_nodes(node):
            yield from _walk(part, (*scopes, (targets, False)), eager=eager)
    elif isinstance(node, ast.AnnAssign):
        yield from _walk(node.target, scopes, eager=eager)
        yield from _walk(node.annotation, scopes, eager=False)
        if node.value is not None:
            yield from _walk(node.value, scopes, eager=eager)
    else:
        for part in ast.iter_child_nodes(node):
            yield from _walk(part, scopes, eager=eager)


def _walk_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda,
    scopes: tuple[tuple[frozenset[str], bool], ...],
    *,
    eager: bool,
) -> Iterator[Reference]:
    """Decorators and defaults run at once and outside; annotations never; the body later, inside."""
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    outside: list[ast.AST] = [*arguments.defaults, *(d for d in arguments.kw_defaults if d is not None)]
    annotations = [a.annotation for a in every if a.annotation is not None]
    if not isinstance(node, ast.Lambda):
        outside += node.decorator_list
        annotations += [node.returns] if node.returns is not None else []
    for part in outside:
        yield from _walk(part, scopes, eager=eager)
    for part in annotations:
        yield from _walk(part, scopes, eager=False)
    shared = {name for part in body for inner in ast.walk(part) if isinstance(inner, ast.Global) for name in inner.names}
    within = (*scopes, (frozenset(a.arg for a in every) | frozenset(_bound(body)) - shared, False))
    for part in body:
        yield from _walk(part, within, eager=False)


def _is_local(name: str, scopes: tuple[tuple[frozenset[str], bool], ...]) -> bool:
    """Class bodies are seen from themselves alone, functions also from what is inside them."""
    return any(name in bound for i, (bound, is_class) in enumerate(scopes) if not is_class or i == len(scopes) - 1)


def _bound(body: list[ast.stmt] | list[ast.expr]) -> Iterator[str]:
    """The names that statements bind in their own scope (not in functions, classes or comprehensions within)."""
    for node in body:
        yield from _bound_by(node)


def _bound_by(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, ast.Lambda):
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from (name for name, _ in _imports(node, ""))
    elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
        yield node.id
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    hidden = {id(g.target) for g in node.generators} if isinstance(node, _COMPREHENSIONS) else set()
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.comprehension):
            yield from (name for p in (part.iter, *part.ifs) for name in _bound_by(p))
        elif id(part) not in hidden:
            yield from _bound_by(part)


def _targets(target: ast.expr) -> Iterator[str]:
    return (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def _imports(statement: ast.Import | ast.ImportFrom, module: str) -> Iterator[tuple[str, Import]]:
    """The names an import statement binds; `import a.b as c` is read as `from a import b as c`."""
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            package = module.rsplit(".", statement.level)[0] + "." if statement.level else ""
            yield alias.asname or alias.name, Import(package + (statement.module or ""), alias.name)
        elif alias.asname and "." in alias.name:
            parent, _, child = alias.name.rpartition(".")
            yield alias.asname, Import(parent, child)
        else:
            yield alias.asname or alias.name.partition(".")[0], Import(alias.name)
