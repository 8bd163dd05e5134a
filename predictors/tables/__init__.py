"""Tables of measured and trained architectures as features and targets."""

from nas.predictors.tables.reading import SUFFIXES, read_table, roles
from nas.predictors.tables.table import Kind, Table, Target

__all__ = ["SUFFIXES", "Kind", "Table", "Target", "read_table", "roles"]
