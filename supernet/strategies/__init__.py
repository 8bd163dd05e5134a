"""How a supernet is trained: which networks each step trains, and what each learns from. Adding a file here adds a strategy."""

from nas.supernet.strategies.base import Draw, Lesson, Phase, StepPlan, strategy_names, training_strategy

__all__ = ["Draw", "Lesson", "Phase", "StepPlan", "strategy_names", "training_strategy"]
