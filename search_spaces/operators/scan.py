"""What the operators that scan a map share: the orders of its positions, and linear recurrences along them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas.search_spaces.registry import Setting

DIRECTIONS = Setting(
    (1, 2, 4),
    rule=lambda v, place: v in (1, 2, 4),
    because="a map is scanned in 1, 2 or 4 directions",
)


def scanned(x: Tensor, directions: int) -> Tensor:
    """The map (B, H, W, C) as `directions` sequences of its N = H W positions: (B, directions, N, C).

    1: row by row from the top left. 2: also the reverse of it. 4: also column by column from the top left, and its reverse.
    """
    orders = [x.flatten(1, 2)]
    if directions == 4:
        orders.append(x.transpose(1, 2).flatten(1, 2))
    if directions == 1:
        return orders[0][:, None]
    return torch.stack([sequence for order in orders for sequence in (order, order.flip(1))], dim=1)


def merged(y: Tensor, height: int, width: int) -> Tensor:
    """The sum over the directions, each position where it is on the map: (B, directions, N, C) -> (B, H, W, C)."""
    batch, directions, _, channels = y.shape
    rows = y[:, 0] if directions == 1 else y[:, 0] + y[:, 1].flip(1)
    out = rows.view(batch, height, width, channels)
    if directions == 4:
        columns = y[:, 2] + y[:, 3].flip(1)
        out = out + columns.view(batch, width, height, channels).transpose(1, 2)
    return out


def naive_orders(height: int, width: int, directions: int) -> list[list[tuple[int, int]]]:
    """The positions in the order of each direction, for the operators' references."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, rows[::-1], columns, columns[::-1]][:directions]


def recurrence(log_decay: Tensor, inputs: Tensor) -> Tensor:
    """h_t = exp(log_decay_t) h_{t-1} + inputs_t along dimension 2, from h = 0; all of shape (B, K, N, ...).

    The sequence is cut in n chunks of T = ceil(sqrt(N)) steps. All chunks run side by side from zero, T steps; then n steps
    carry the state from chunk to chunk; last, each step adds what is left of its chunk's first state. With log_decay <= 0 no
    factor exceeds 1, so nothing overflows, and there are about 2 sqrt(N) steps in place of N.
    """
    length = inputs.shape[2]
    steps = math.ceil(math.sqrt(length))
    log_decay, inputs = (in_chunks(part, steps) for part in (log_decay, inputs))
    state, *rest = inputs.unbind(3)  # selecting step by step would make a gradient of the whole map for each step
    states = [state]
    for factor, part in zip(log_decay.exp().unbind(3)[1:], rest, strict=True):
        state = factor * state + part
        states.append(state)
    local = torch.stack(states, dim=3)
    left = log_decay.cumsum(3).exp()
    carried = torch.zeros_like(state[:, :, 0])
    firsts = [carried]
    for factor, part in zip(left[:, :, :, -1].unbind(2)[:-1], state.unbind(2)[:-1], strict=True):
        carried = factor * carried + part
        firsts.append(carried)
    return (local + left * torch.stack(firsts, dim=2).unsqueeze(3)).flatten(2, 3)[:, :, :length]


def in_chunks(x: Tensor, steps: int) -> Tensor:
    """(B, K, N, ...) -> (B, K, ceil(N / steps), steps, ...), padded with zeros at the end."""
    missing = -x.shape[2] % steps
    if missing:
        x = torch.cat((x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])), dim=2)
    return x.unflatten(2, (-1, steps))
