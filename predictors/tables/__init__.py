"""Tables of measured and trained architectures as features and targets."""

from nas.predictors.tables.columns import SUFFIXES, roles, table_name
from nas.predictors.tables.reading import read_table
from nas.predictors.tables.table import Kind, Table, Target
from nas.predictors.tables.variants import variants

__all__ = ["SUFFIXES", "Kind", "Table", "Target", "read_table", "roles", "table_name", "variants"]
