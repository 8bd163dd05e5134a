"""Copying classes and functions out of this package into one file that needs torch alone.

What a definition uses is followed through the modules of the package, names that two modules give to different things are
told apart by renaming, and what only the search needs (registration, slicing rules) is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator

from nas.errors import FileError
from nas.results.sources import BUILTINS, Definition, Import, Reference, Source, is_module, references, resolve, source

REGISTRY = "nas.search_spaces.registry"
SEARCH_ATTRIBUTES = frozenset({"centred", "symmetries", "head_symmetries"})
OPTIONAL = frozenset({"safetensors"})
_Edit = tuple[int, int, bytes]


class Inliner:
    """Collects definitions with all they use, and writes them as one file's imports and body.

    `packages` are the top-level packages besides this one whose code may be copied; `reserved` names are left to the caller.
    """

    def __init__(self, packages: Iterable[str], reserved: Iterable[str] = ()) -> None:
        self.packages = frozenset({"nas", *packages})
        self.names: dict[Definition | Import, str] = {}
        self.taken = set(BUILTINS) | set(reserved)
        self.statements: dict[int, Definition] = {}
        self.eager: dict[Definition, list[Definition]] = {}
        self.import_lines: set[Import] = set()

    def use(self, module: str, name: str) -> str:
        """Take in a name of a module and all it needs; returns what it is called in the file. Raises FileError."""
        found = resolve(module, name, self.packages)
        if found is None:
            raise FileError(f"cannot export {name!r} of {module}: it is not defined at the top level; move it there")
        return self._add_import(found, name) if isinstance(found, list) else self._add(found)

    def use_import(self, module: str, name: str | None = None) -> str:
        """Import a name of torch or the standard library for the caller; returns what it is called."""
        return self._add_import([Import(module, name)], name or module)

    def _add(self, wanted: Definition) -> str:
        if wanted in self.names:
            return self.names[wanted]
        origin = source(wanted.module)
        if wanted.name in origin.rebound:
            raise FileError(f"cannot export {wanted.name!r} of {wanted.module}: it is assigned twice; assign it once")
        statement = origin.definitions[wanted.name]
        self._name(wanted, wanted.name)
        self.statements.setdefault(id(statement), wanted)
        self.eager[wanted] = []
        for reference in self._references(origin, statement):
            target = self._target(origin, reference)
            if isinstance(target, Definition):
                self._add(target)
                if reference.eager:
                    self.eager[wanted].append(target)
            elif target is not None:
                self._add_import(target, reference.name.id)
        self._check_inner_imports(wanted, statement)
        return self.names[wanted]

    def _target(self, origin: Source, reference: Reference) -> Definition | list[Import] | None:
        """What a reference means; a `module.name` of a copied module is that name."""
        name = reference.name.id
        found = resolve(origin.module, name, self.packages)
        if found is None and name not in BUILTINS and not name.startswith("__"):
            raise FileError(f"cannot export {origin.module}: {name!r} is not defined at its top level")
        if isinstance(found, list) and not found[0].portable:
            if found[0].root not in self.packages:
                raise FileError(
                    f"cannot export {origin.module}: it imports {found[0].module!r}, and the exported file has torch alone; "
                    "write the operator with torch and the standard library"
                )
            if reference.attribute is None or found[0].name is None or not is_module(found[0]):
                raise FileError(f"cannot export {origin.module}: it uses the module {name!r}; import the names it needs")
            return resolve(f"{found[0].module}.{found[0].name}", reference.attribute.attr, self.packages)
        return found

    def _check_inner_imports(self, wanted: Definition, statement: ast.stmt) -> None:
        for node in ast.walk(statement):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if not Import(module).portable and Import(module).root not in OPTIONAL:
                    raise FileError(f"cannot export {wanted.name!r} of {wanted.module}: it imports {module!r} inside")

    def _add_import(self, found: list[Import], name: str) -> str:
        self.import_lines.update(found)
        if found[0].name is None:
            return self._name(Import(found[0].root), found[0].root, fixed=True)
        return self._name(found[0], name)

    def _name(self, wanted: Definition | Import, name: str, *, fixed: bool = False) -> str:
        """The name in the file: its own, or where that is taken, its own with its module's behind it."""
        if wanted in self.names:
            return self.names[wanted]
        free, number = name, 1
        while free in self.taken:
            if fixed:
                raise FileError(f"cannot export: the name of the imported module {name!r} is taken; rename the definition")
            free = f"{name}_{wanted.module.rpartition('.')[2]}" + (f"_{number}" if number > 1 else "")
            number += 1
        self.taken.add(free)
        self.names[wanted] = free
        return free

    def _references(self, origin: Source, statement: ast.stmt) -> Iterator[Reference]:
        """The references outside what is left out."""
        gaps = [(start, end) for start, end, _ in self._left_out(origin, statement)]
        for reference in references(statement):
            at = origin.offset(reference.name.lineno, reference.name.col_offset)
            if not any(start <= at < end for start, end in gaps):
                yield reference

    def _left_out(self, origin: Source, statement: ast.stmt) -> Iterator[_Edit]:
        """Registration decorators and search attributes, as whole lines replaced by nothing (or `pass`)."""
        if not isinstance(statement, ast.ClassDef):
            return
        for decorator in statement.decorator_list:
            root = decorator.func if isinstance(decorator, ast.Call) else decorator
            found = resolve(origin.module, root.id, self.packages) if isinstance(root, ast.Name) else None
            if isinstance(found, Definition) and found.module == REGISTRY:
                yield *_lines(origin, decorator), b""
        dropped = [part for part in statement.body if _assigned(part) & SEARCH_ATTRIBUTES]
        for part in dropped:
            alone = len(dropped) == len(statement.body) and part is dropped[-1]
            yield *_lines(origin, part, comments=True, blank_after=True), b"    pass\n" if alone else b""

    def body(self, heading: Callable[[Definition], str]) -> str:
        """The definitions, each after what it needs on import, else in their modules' order.

        `heading` gives the comment lines above a definition (empty for none).
        """
        modules = list(dict.fromkeys(d.module for d in self.statements.values()))
        ordered = sorted(self.statements.values(), key=lambda d: (modules.index(d.module), self._line(d)))
        done: dict[int, str] = {}
        for definition in ordered:
            self._emit(definition, done, heading)
        return "\n\n".join(done.values())

    def _line(self, definition: Definition) -> int:
        return source(definition.module).definitions[definition.name].lineno

    def _emit(self, definition: Definition, done: dict[int, str], heading: Callable[[Definition], str]) -> None:
        statement = source(definition.module).definitions[definition.name]
        if id(statement) in done:
            return
        for needed in self.eager[definition]:
            if source(needed.module).definitions[needed.name] is not statement:
                self._emit(needed, done, heading)
        done[id(statement)] = heading(definition) + self._segment(source(definition.module), statement)

    def _segment(self, origin: Source, statement: ast.stmt) -> str:
        """The statement's own text with names as they are in the file."""
        start, end = _lines(origin, statement, comments=True)
        edits = [*self._left_out(origin, statement), *self._renames(origin, statement)]
        text, at = b"", start
        for first, last, new in sorted(edits):
            text += origin.text[at:first] + new
            at = last
        return (text + origin.text[at:end]).decode()

    def _renames(self, origin: Source, statement: ast.stmt) -> Iterator[_Edit]:
        local = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
        local |= {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
        for node, old, target in self._uses(origin, statement):
            new = self.names[target]
            if new != old and new in local:
                raise FileError(f"cannot export {origin.module}: {old!r} would become {new!r}, which it uses; rename one")
            yield *_span(origin, node), new.encode()
        if isinstance(statement, (ast.ClassDef, ast.FunctionDef)):
            start = origin.offset(statement.lineno, statement.col_offset)
            match = re.compile(rb"(?:class|def)\s+(\w+)").match(origin.text, start)
            assert match is not None, f"no name at line {statement.lineno} of {origin.module}"
            yield *match.span(1), self.names[Definition(origin.module, statement.name)].encode()

    def _uses(self, origin: Source, statement: ast.stmt) -> Iterator[tuple[ast.expr, str, Definition | Import]]:
        """Each expression that stands for a definition or an import, with its text."""
        for reference in self._references(origin, statement):
            target = self._target(origin, reference)
            if isinstance(target, list):
                yield reference.name, reference.name.id, target[0] if target[0].name else Import(target[0].root)
            elif target is not None:
                direct = resolve(origin.module, reference.name.id, self.packages) == target
                node = reference.name if direct or reference.attribute is None else reference.attribute
                yield node, reference.name.id if direct else "", target

    def imports(self) -> str:
        """The import lines: standard library, then torch; modules before names, CONSTANTS before Classes before the rest."""
        groups: dict[bool, list[str]] = {False: [], True: []}
        joined: dict[tuple[str, str], list[str]] = {}
        for found in sorted(self.import_lines, key=_import_order):
            if found.name is None:
                groups[found.root == "torch"].append(f"import {found.module}")
            else:
                name = self.names[found]
                alias = "" if name == found.name else f" as {name}"
                joined.setdefault((found.module, alias), []).append(found.name + alias)
        for (module, _), names in joined.items():
            groups[Import(module).root == "torch"].append(f"from {module} import {', '.join(names)}")
        return "\n\n".join("\n".join(lines) for lines in groups.values() if lines)


def _import_order(found: Import) -> tuple[str, bool, bool, str]:
    name = found.name or ""
    return found.module, not name.isupper(), not name[:1].isupper(), name


def _lines(origin: Source, node: ast.stmt | ast.expr, *, comments: bool = False, blank_after: bool = False) -> tuple[int, int]:
    """The bytes of a node's whole lines, from its first decorator on, with the comments right above
    it, or the blank lines below it where there are some above too."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    while comments and first > 1 and _text(origin, first - 1).startswith(b"#"):
        first -= 1
    last = node.end_lineno or node.lineno
    blank_after = blank_after and first > 1 and not _text(origin, first - 1).strip()
    while blank_after and last < len(origin.starts) - 1 and not _text(origin, last + 1).strip():
        last += 1
    return origin.starts[first - 1], origin.starts[last]


def _text(origin: Source, line: int) -> bytes:
    return origin.text[origin.starts[line - 1] : origin.starts[line]].lstrip()


def _span(origin: Source, node: ast.expr) -> tuple[int, int]:
    return (
        origin.offset(node.lineno, node.col_offset),
        origin.offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
    )


def _assigned(statement: ast.stmt) -> set[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    targets = [statement.target] if isinstance(statement, ast.AnnAssign) else targets
    return {target.id for target in targets if isinstance(target, ast.Name)}
