"""Cutting a map into windows: side by side, rolled, or each spread over the whole map as a grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas.search_spaces.operators.positions.base import Layout


@dataclass(frozen=True, slots=True)
class Plan:
    """P windows of N tokens of one map.

    `places` (P, N): where the tokens are in the flattened map, some place for padding. `home` (P, N): tokens of a window see
    each other where it is the same. `back` (H W): where each pixel is among the P N tokens. `whole`: all tokens of a window
    see each other.
    """

    places: Tensor
    home: Tensor
    back: Tensor
    whole: bool

    @property
    def seen(self) -> Tensor | None:
        """Which tokens see which, (P, N, N); None for all."""
        return None if self.whole else self.home[:, :, None] == self.home[:, None, :]


class Windows(nn.Module):
    """Windows of `window` x `window` tokens of a map of any size; ready for `size` x `size`.

    With `shift` the map is rolled by that much up and to the left first, and tokens that were no neighbours before do not see
    each other. With `spread` a window takes every n-th pixel of a map of n x n windows instead of neighbours. Maps that are
    no multiple of the window are padded at the bottom and right with tokens that nobody sees.
    """

    places: Tensor
    home: Tensor
    back: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, size: int, window: int, *, shift: int = 0, spread: bool = False) -> None:
        super().__init__()
        self.size, self.window, self.shift, self.spread = size, window, shift, spread
        plan = self._made(size, size)
        self.register_buffer("places", plan.places, persistent=False)
        self.register_buffer("home", plan.home, persistent=False)
        self.register_buffer("back", plan.back, persistent=False)
        step = torch.arange(window)
        apart = (step[None] - step[:, None]).view(1, window, 1, window, 1)
        shape = (1, window, window, window, window)
        self.register_buffer("rows", apart.expand(shape).reshape(1, window**2, window**2), persistent=False)
        self.register_buffer(
            "columns", apart.permute(0, 2, 1, 4, 3).expand(shape).reshape(1, window**2, window**2), persistent=False
        )

    def plan(self, height: int, width: int) -> Plan:
        """The windows of a map of that size."""
        if height == self.size and width == self.size:
            return Plan(self.places, self.home, self.back, self._whole(height, width))
        plan, device = self._made(height, width), self.places.device
        return Plan(plan.places.to(device), plan.home.to(device), plan.back.to(device), plan.whole)

    def layout(self, plan: Plan) -> Layout:
        """Offsets between the tokens of a window in steps of the window, and where the tokens are."""
        return Layout(self.rows, self.columns, plan.places, plan.places)

    def _whole(self, height: int, width: int) -> bool:
        return not self.shift and height % self.window == 0 and width % self.window == 0

    def _made(self, height: int, width: int) -> Plan:
        down, right = self._axis(height), self._axis(width)
        places = down[0].clamp(max=height - 1)[:, None, :, None] * width + right[0].clamp(max=width - 1)[None, :, None, :]
        home = down[1][:, None, :, None] * 4 + right[1][None, :, None, :]
        tile = down[2][:, None] * right[0].shape[0] + right[2]
        back = (tile * self.window + down[3][:, None]) * self.window + right[3]
        windows = (down[0].shape[0] * right[0].shape[0], self.window**2)
        return Plan(places.reshape(windows), home.reshape(windows), back.flatten(), self._whole(height, width))

    def _axis(self, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One axis: place and home of each window's tokens (n, window), window and place in it of each pixel (length)."""
        count = -(-length // self.window)
        padded, pixel = count * self.window, torch.arange(length)
        if self.spread:
            place = torch.arange(padded).view(self.window, count).t()
            return place, (place >= length).long(), pixel % count, pixel // count
        rolled = torch.arange(padded).view(count, self.window)
        place, back = (rolled + self.shift) % padded, (pixel - self.shift) % padded
        home = (rolled >= padded - self.shift).long() + 2 * (place >= length)
        return place, home, back // self.window, back % self.window


def cut(x: Tensor, plan: Plan) -> Tensor:
    """(B, H, W, C) -> (B, P, N, C)."""
    tokens = x.flatten(1, 2).index_select(1, plan.places.flatten())
    return tokens.view(x.shape[0], *plan.places.shape, x.shape[3])


def uncut(tiles: Tensor, plan: Plan, height: int, width: int) -> Tensor:
    """(B, P, N, C) -> (B, H, W, C)."""
    return tiles.flatten(1, 2).index_select(1, plan.back).view(tiles.shape[0], height, width, tiles.shape[3])
