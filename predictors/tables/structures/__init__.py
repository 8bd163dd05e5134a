"""Structures: how the architecture columns of a table become features. Adding a file here adds one."""

from nas.predictors.tables.structures.base import Encoded, Structure, register_structure, structure_names, structure_of

__all__ = ["Encoded", "Structure", "register_structure", "structure_names", "structure_of"]
