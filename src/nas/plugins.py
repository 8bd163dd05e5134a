"""What registers itself when it is imported: the modules of a package, and what other packages announce."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from nas.errors import UnknownNameError

T = TypeVar("T")


def discover(package: str, group: str = "") -> None:
    """Import every module below a package, and load the entry points of a group where one is named."""
    found = importlib.import_module(package)
    for module in pkgutil.walk_packages(found.__path__, package + "."):
        importlib.import_module(module.name)
    for entry in entry_points(group=group) if group else ():
        entry.load()


def lookup(what: str, name: str, known: Mapping[str, T]) -> T:
    """The entry of that name. Raises UnknownNameError, with the nearest one."""
    if name not in known:
        raise UnknownNameError(what, name, known)
    return known[name]
