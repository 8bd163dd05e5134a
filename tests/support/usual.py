"""Which operators `make test` looks at in its longest tests: those of the two smaller presets that people search."""

import pytest

from nas.search_spaces.presets import PRESETS
from nas.search_spaces.registry import Operator

USUAL = frozenset(
    name
    for preset in ("tiny", "mobile")
    for space in (PRESETS[preset](),)
    for name in (*(mixer for stage in space.mixers for mixer in stage), *space.channel_mixers)
)


def usual_first(operators: list[Operator]) -> list[object]:
    """The operators as parameters of a test; those of no usual preset are left to `make test-all`."""
    return [pytest.param(op, marks=() if op.name in USUAL else pytest.mark.thorough) for op in operators]
