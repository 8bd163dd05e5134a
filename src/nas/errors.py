"""Every error that a user can cause.

    NasError                 exit 1: something went wrong that is not the command line's fault
    ├── UsageError           exit 2: the request itself cannot be understood
    │   ├── UnknownNameError     a name that nothing is registered under
    │   └── SpaceError           a search space or architecture that breaks a rule
    ├── InfeasibleError      exit 3: no architecture of the space meets the budget
    ├── MeasurementError     exit 1: a target cannot be measured, or not believably
    ├── DivergedError        exit 1: the loss of a network that trains alone is lost
    └── FileError            exit 1: a file is missing, truncated, foreign, or cannot be written

Each message is one line: the rule, the value that broke it, the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class NasError(Exception):
    """Base of all errors that are reported as one line, without a traceback."""

    exit_code = 1


class UsageError(NasError, ValueError):
    """The request cannot be understood: an option, a quantity, a name, a setting."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that nothing is registered under, with the nearest one that exists."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
        remedy = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
        super().__init__(f"unknown {what} {name!r}. {remedy}")


class SpaceError(UsageError):
    """A search space or an architecture that breaks a rule of the operators or of the space."""


class InfeasibleError(NasError):
    """No architecture of the space meets the budget; the message names the `closest`, which is an architecture if known."""

    exit_code = 3

    def __init__(self, message: str, closest: Any = None) -> None:
        super().__init__(message)
        self.closest = closest


class MeasurementError(NasError):
    """A target that cannot be measured, or whose measurements cannot be believed."""


class DivergedError(NasError):
    """The loss of a network that trains alone is not finite."""


class FileError(NasError):
    """A file that is missing, truncated, of another program, or cannot be written."""


def in_one_line(error: BaseException) -> str:
    """What somebody else's error says, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:500]
