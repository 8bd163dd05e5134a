"""Attention inside square windows, optionally shifted, with a relative-position bias."""

from __future__ import annotations

from typing import Any, Unpack

from torch import Tensor

from nas.search_spaces.operators import attention_naive
from nas.search_spaces.operators.attention import HEADS
from nas.search_spaces.operators.attention_base import Modifiers, attention_macs, modifiers
from nas.search_spaces.operators.attention_windows import WindowedAttention
from nas.search_spaces.operators.positions.base import Pair
from nas.search_spaces.operators.windows import Windows
from nas.search_spaces.registry import Group, Kind, Setting, register

WINDOW = Setting(
    (2, 4, 7, 8, 14),
    rule=lambda v, place: 2 <= int(v) <= place.size,
    because="a window is at least 2 and not larger than the map",
)


@register(
    "window_attention",
    Kind.TOKEN_MIXER,
    family="attention",
    group=Group.ATTENTION,
    cite="Liu et al. 2021 (Swin), arXiv:2103.14030, eq. 2-4; official swin_transformer.py WindowAttention",
    settings={
        "heads": HEADS,
        "window": WINDOW,
        "shift": Setting(
            (False, True),
            rule=lambda v, place: not v or int(place.chosen["window"]) < place.size,
            because="windows are shifted only where they are smaller than the map",
        ),
        **modifiers("table", own_map=True),
    },
)
class WindowAttention(WindowedAttention):
    """softmax(q k^T / sqrt(d) + B) v among the tokens of each window; B is read from a table by relative position.

    With `shift` the windows move by window // 2 and tokens that were not neighbours before the cyclic roll do not see each
    other. Maps that are no multiple of the window are padded at the bottom and right; padded keys are masked (the official
    code lets them take part; for the published sizes there is no padding). Swin V2's (arXiv:2111.09883) is score="cosine",
    position="log_cpb", key_bias=False; TinyViT's (arXiv:2207.10666) is position="symmetric_table". MACs:
    4 N C^2 + 2 N window^2 C.
    """

    def __init__(
        self, width: int, size: int, *, heads: int, window: int, shift: bool, **chosen: Unpack[Modifiers]
    ) -> None:  # fmt: skip
        super().__init__(width, window, heads=heads, usual="table", **chosen)
        self.windows = Windows(size, window, shift=window // 2 if shift else 0)


def reference(module: WindowAttention, x: Tensor) -> Tensor:
    """Query by query, over the pixels that lie in the same window of the shifted partition."""
    window, shift = module.windows.window, module.windows.shift
    return attention_naive.attend(module, x, lambda head, i, j: mates(i, j, x.shape[1:3], window, shift))


def mates(i: int, j: int, shape: tuple[int, ...], window: int, shift: int) -> list[Pair]:
    """The pixels that (i, j) sees on a map of that height and width."""
    height, width = shape
    padded = (height + -height % window, width + -width % window)
    home = _home(i, j, window, shift, padded)
    every = [(y, z) for y in range(height) for z in range(width)]
    return [Pair(y - i, z - j, (i, j), (y, z)) for y, z in every if _home(y, z, window, shift, padded) == home]


def _home(i: int, j: int, window: int, shift: int, padded: tuple[int, int]) -> tuple[int, ...]:
    """The window that a pixel falls in, and whether the roll wrapped it around each axis."""
    y, z = i - shift, j - shift
    return (y % padded[0] // window, z % padded[1] // window, int(y < 0), int(z < 0))


def macs(width: int, size: int, **settings: Any) -> int:
    """4 N C^2 + 2 N window^2 C for the plain form, N in the mixing with the padding."""
    module, pixels = WindowAttention(width, size, **settings), size * size
    tokens = settings["window"] ** 2
    tiles = (-(-size // settings["window"])) ** 2
    return attention_macs(module, pixels, pixels, tiles, tokens, tokens)
