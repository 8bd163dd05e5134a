"""What every position prior is: hooks into attention that do nothing unless a prior says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the queries and keys of P tiles lie, each a whole-number tensor.

    `rows`, `columns`: (P, N, M) or (1, N, M), position of the key minus position of the query in the pattern's own steps
    (pixels, or pixels over the dilation, or coarse cells). `query`, `key`: (P, N) and (P, M), the places of the tokens in the
    flattened map of queries and in that of keys; only priors that look at the tokens' content need them. `tiles` says what
    the tiles are if they are all rows of the map, "rows", its "columns", or one tile is the whole "map", in raster order.
    `axes`: where tiles of n x m queries see all of N x M keys, the offsets along both axes by themselves, (n, N) and (m, M).
    """

    rows: Tensor
    columns: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    tiles: str = ""
    axes: tuple[Tensor, Tensor] | None = None


class Position(nn.Module):
    """A position prior for `heads` heads of a `width`-channel attention whose offsets stay within `reach` steps.

    Constructor of every prior: `(width, heads, reach, narrow)`, `narrow` being the channels of queries and keys. Tokens know
    nothing of their place (the prior `none`) unless a subclass overrides a hook. `places` says whether a prior reads layouts:
    patterns make none where it does not. `own_map`: keys must lie on the input map, and layouts say where.
    """

    places: ClassVar[bool] = False
    own_map: ClassVar[bool] = False

    def __init__(self, width: int, heads: int, reach: int, narrow: int) -> None:
        super().__init__()
        self.width, self.heads, self.reach, self.narrow = width, heads, reach, narrow

    def before(self, x: Tensor) -> Tensor:
        """The input map before the projections: (B, H, W, C) -> (B, H, W, C)."""
        return x

    def turns(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of the angles by which queries and keys of a map are turned before they are compared.

        Both (H, W, pairs) for a map (B, H, W, C), the same for all heads, a pair being two neighbouring channels of a head.
        """
        return None

    def bias(self, layout: Layout, x: Tensor) -> Tensor | tuple[Tensor, Tensor] | None:
        """What is added to the scores, (P or 1, heads, N, M), or (B, P, heads, N, M) where it depends on the input map x.

        A pair of such: the weights are the mean of those that the two give.
        """
        return None

    def query_bias(self, layout: Layout, q: Tensor, part: slice) -> Tensor | None:
        """What is added for the queries (B, P, N, C) of the heads in `part`: (B, P, h, N, M)."""
        return None

    def stretch(self, layout: Layout) -> Tensor | None:
        """What the scores are multiplied by before anything is added: (P or 1, heads, N, M)."""
        return None

    def blend(self, weights: Tensor, layout: Layout, part: slice, seen: Tensor | None) -> Tensor:
        """The weights after normalisation, (B, P, h, N, M) -> (B, P, h, N, M), of the heads in `part`; `seen` as in `mix`."""
        return weights

    def macs(self, queries: int, keys: int, layouts: int, tiles: int, pixels: int, parts: int = 1) -> int:
        """MACs of the hooks for the mixing in `tiles` tiles of `queries` x `keys` pairs, with that many different layouts.

        `parts`: the heads are mixed in that many equal parts, one after the other.
        """
        return 0

    def map_macs(self, pixels: int) -> int:
        """MACs of the hook `before` for one image of `pixels` tokens."""
        return 0


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a key it sees, for the references: offsets as in `Layout`, places (row, column) on their own maps."""

    rows: int
    columns: int
    query: tuple[int, int]
    key: tuple[int, int]
