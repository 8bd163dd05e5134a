"""nas: a vision backbone for your data, inside your latency budget, on your device.

    import nas
    space = nas.load_space("tiny")
    architecture = space.sample(random.Random(0))
    network = nas.build(architecture, num_classes=10)
    outcome = nas.search(space, data="digits", budgets={"latency": 0.005}, out="runs/first")

Everything is imported when first asked for, so that `import nas` and `nas --help` are fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas import catalog, operators, search
    from nas.predictors.cost import Cost, cost
    from nas.predictors.measure import measure
    from nas.predictors.target import Target
    from nas.predictors.timings import Measurement
    from nas.results.run import Run
    from nas.search_spaces.architecture import Architecture
    from nas.search_spaces.backbone import build
    from nas.search_spaces.presets import load_space
    from nas.search_spaces.space import SearchSpace
    from nas.supernet.supernet import Supernet

_HOMES = {
    "Architecture": "nas.search_spaces.architecture",
    "Cost": "nas.predictors.cost",
    "Measurement": "nas.predictors.timings",
    "Run": "nas.results.run",
    "SearchSpace": "nas.search_spaces.space",
    "Supernet": "nas.supernet.supernet",
    "Target": "nas.predictors.target",
    "build": "nas.search_spaces.backbone",
    "catalog": "",
    "cost": "nas.predictors.cost",
    "load_space": "nas.search_spaces.presets",
    "measure": "nas.predictors.measure",
    "operators": "",
    "search": "",
}

__all__ = [
    "Architecture",
    "Cost",
    "Measurement",
    "Run",
    "SearchSpace",
    "Supernet",
    "Target",
    "build",
    "catalog",
    "cost",
    "load_space",
    "measure",
    "operators",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    home = _HOMES[name]
    return getattr(importlib.import_module(home), name) if home else importlib.import_module(f"nas.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
