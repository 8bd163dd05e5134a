"""Tables of measured and trained architectures as features and targets."""

from nas.predictors.tables.reading import SUFFIXES, Kind, Table, Target, read_table, roles

__all__ = ["SUFFIXES", "Kind", "Table", "Target", "read_table", "roles"]
