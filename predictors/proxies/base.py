"""What a zero-cost proxy is, and the registry of proxies."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from nas.errors import UsageError
from nas.plugins import discover, lookup

LIMIT = 1e15
"""Scores lie between -LIMIT and LIMIT."""
_SEED = 0

Need = Literal["images", "labels"]
Measure = Callable[[nn.Module, Tensor, Tensor], float]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A registered proxy: how it is computed, the paper behind it, and what of the batch it looks at beside its shape.

    `measure` may do what it likes to its network, a copy in training mode whose parameters all ask for gradients. Networks
    are fresh ones, as `nas.build` makes them; gradients are on, and random numbers start from a fixed seed.
    """

    name: str
    measure: Measure
    cite: str
    needs: tuple[Need, ...] = ()

    def score(self, network: nn.Module, images: Tensor, labels: Tensor) -> float:
        """The proxy of a network on images (B, ...) and class indices (B,), B >= 2, which are brought to its device and type.

        The same arguments give the same value. Network, images and random state are left as they were. A score that is not
        a number becomes -LIMIT, as what cannot even be computed is worse than all else; beyond +-LIMIT, infinities
        included, it is cut. Raises UsageError for a batch that is too small, or whose labels do not fit.
        """
        if len(images) < 2 or labels.shape != images.shape[:1]:
            raise UsageError(
                f"a proxy needs at least 2 images and a label for each: got images {tuple(images.shape)} "
                f"and labels {tuple(labels.shape)}"
            )
        own = copy.deepcopy(network).train().requires_grad_(True)
        like = next(own.parameters(), images)
        images = images.detach().to(like.device, like.dtype)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())), torch.enable_grad():
            torch.manual_seed(_SEED)
            return finite(self.measure(own, images, labels.to(like.device)))


def finite(value: float) -> float:
    """The value between -LIMIT and LIMIT; -LIMIT for what is not a number."""
    return -LIMIT if math.isnan(value) else min(max(float(value), -LIMIT), LIMIT)


_PROXIES: dict[str, Proxy] = {}


def register_proxy(name: str, *, cite: str, needs: tuple[Need, ...] = ()) -> Callable[[Measure], Measure]:
    """Announce a function `(network, images, labels) -> score` under a name; `Proxy` says what it may count on."""

    def announce(measure: Measure) -> Measure:
        _PROXIES[name] = Proxy(name, measure, cite, needs)
        return measure

    return announce


@cache
def _discover() -> None:
    discover("nas.predictors.proxies", "nas.proxies")


def proxy_names() -> list[str]:
    """The registered proxies, sorted."""
    _discover()
    return sorted(_PROXIES)


def proxy(name: str) -> Proxy:
    """The proxy of that name. Raises UnknownNameError, with the nearest one."""
    _discover()
    return lookup("proxy", name, _PROXIES)


def proxy_scores(network: nn.Module, images: Tensor, labels: Tensor, names: Iterable[str] | None = None) -> dict[str, float]:
    """The scores of a fresh network by the names of the proxies, all of them unless `names` says which.

    Raises UnknownNameError, before anything is computed, and UsageError as `Proxy.score` does.
    """
    wanted = [proxy(name) for name in (proxy_names() if names is None else names)]
    return {one.name: one.score(network, images, labels) for one in wanted}
