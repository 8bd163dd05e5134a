"""The search: strategies, archive, executors and the loop.

The package can be called: `nas.search(space, data="digits", budgets={"latency": 0.005}, out="runs/first")` runs a whole
search, as `nas search` does.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """A module whose call is the public function of the same name, which lives in a layer above this one."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return importlib.import_module("nas.results.api").search(*args, **options)


sys.modules[__name__].__class__ = _CallableModule
