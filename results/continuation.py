"""The request of a run that starts from another one: everything as it was there, but for what is changed.

A new folder, and not the old one continued under other budgets: what the old run found, measured and reported stays true for
the budgets that it was asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nas.predictors.energy_predictor import can_predict
from nas.predictors.latency_table import LatencyTable
from nas.results.config import SearchConfig, versions
from nas.results.run import Run
from nas.search_spaces.space import SearchSpace
from nas.supernet.training import trained_epochs

_SUPERNET = ("space", "data", "train_images", "validation_images", "training")


def continued(run: Run, changes: Mapping[str, Any]) -> SearchConfig:
    """The request of `run` with some fields changed.

    Where none of them touches the supernet, its weights are taken over if its training is finished (else those that it was
    itself given), and so are its latency tables of the same targets, unless they lack energies that are asked for. Another
    space, other data or another training need a supernet of their own.
    """
    other = run.config()
    own: dict[str, Any] = {
        "supernet": None,
        "supernet_digest": "",
        "latency_tables": {},
        "storage": None,
        "data_fingerprint": "",
    }
    config = replace(other, **{**own, "versions": versions(), **changes})
    if any(_plain(getattr(config, name)) != _plain(getattr(other, name)) for name in _SUPERNET):
        return config
    tables = {str(target): run.table_of(metric, target) for metric, target in other.latencies().items()}
    known = {
        metric: str(tables[str(target)])
        for metric, target in config.latencies().items()
        if str(target) in tables
        and tables[str(target)].exists()
        and (metric not in config.energies() or can_predict(LatencyTable.load(tables[str(target)])))
    }
    trained = trained_epochs(run.checkpoint) >= other.training.epochs
    supernet = str(run.path) if trained else other.supernet
    return replace(config, supernet=supernet, latency_tables={**known, **config.latency_tables})


def _plain(value: Any) -> Any:
    """A space as its canonical mapping, whichever way it was written."""
    return SearchSpace.from_mapping(value).to_mapping() if isinstance(value, Mapping) else value
