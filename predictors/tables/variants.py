"""The tables that one file gives: as it is, and in a second way that the first is to be compared with."""

from __future__ import annotations

from dataclasses import replace

from nas.predictors.surrogates.layout import PROXIES
from nas.predictors.tables.proxies import without_proxies
from nas.predictors.tables.table import Table

FAMILIES_HELD_OUT, PROXIES_KNOWN = "+families", "+proxies"


def variants(table: Table) -> tuple[Table, ...]:
    """Published networks: split at random, and by family. Proxies: without them, and with them. Others: as they are."""
    if table.families:
        return table, replace(table, name=table.name + FAMILIES_HELD_OUT, split="families", notes=())
    if PROXIES in table.layout.names:
        return without_proxies(table), replace(table, name=table.name + PROXIES_KNOWN, notes=())
    return (table,)
