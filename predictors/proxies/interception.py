"""Watching or replacing the activations and norms of a network, whether they are modules or calls of functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from torch.overrides import TorchFunctionMode

RECTIFIERS = ("relu", "relu6", "gelu", "silu", "hardswish", "mish", "elu", "celu", "selu", "leaky_relu", "prelu", "rrelu")
"""Activations that are about the identity for large inputs."""
SATURATING = ("sigmoid", "hardsigmoid", "logsigmoid", "tanh", "hardtanh", "softsign", "softplus")
"""Other activations: those that gate, and those that keep a value positive or bounded."""
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm")
"""Norms, by the names of their functions, which torch's norm modules call too."""

Handler = Callable[..., Any]
"""`(call, *args, **kwargs)`: what a function is called with, behind `call()`, which gives what it would have returned."""


class Intercept(TorchFunctionMode):
    """Inside this context the functions of these names, in place or not, return what their handlers return."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        super().__init__()
        self.handlers = handlers

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The handler's answer, or the function's own."""
        call = partial(func, *args, **(kwargs or {}))
        handler = self.handlers.get(getattr(func, "__name__", "").rstrip("_"))
        return call() if handler is None else handler(call, *args, **(kwargs or {}))
