"""How long steps tell how far they are; the command line draws it, a library user may ignore it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

Step = Callable[[int, int, str], None]
"""Called with what is done, what there is in all, and a few words."""


class Reporter(Protocol):
    """Where progress goes."""

    def phase(self, title: str) -> contextlib.AbstractContextManager[Step]:
        """A phase of the work; the callback moves its bar."""

    def note(self, text: str) -> None:
        """One line for the reader."""


class Silent:
    """Says nothing."""

    @contextlib.contextmanager
    def phase(self, title: str) -> Iterator[Step]:
        """A phase without a bar."""
        yield lambda done, total, words: None

    def note(self, text: str) -> None:
        """Nothing."""
