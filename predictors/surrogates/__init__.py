"""Surrogates: regressions that say how sure they are. Adding a file here adds one."""

from nas.predictors.surrogates.base import Surrogate, register_surrogate, surrogate, surrogate_names, surrogate_summary
from nas.predictors.surrogates.layout import Layout
from nas.predictors.surrogates.scale import ScaleName

__all__ = ["Layout", "ScaleName", "Surrogate", "register_surrogate", "surrogate", "surrogate_names", "surrogate_summary"]
