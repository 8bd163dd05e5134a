"""A dispatch mode that listens to what PyTorch runs, and nothing more."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Listening(TorchDispatchMode):
    """A mode whose `__torch_dispatch__` is called as it is.

    PyTorch otherwise wraps it so that `torch.compile` does not look into it, and imports its compiler for that at the first
    operation, which takes longer than a process that profiles or predicts needs for everything it listens to.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
