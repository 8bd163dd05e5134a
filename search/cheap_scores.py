"""What candidates are screened by: the supernet's accuracy on few images, or a zero-cost proxy."""

from __future__ import annotations

from nas.errors import UsageError
from nas.plugins import lookup
from nas.predictors.proxies import Proxy, proxy, proxy_names

ACCURACY = "accuracy"
_LEAST = 2


def cheap_scores() -> list[str]:
    """The names of all cheap scores: `accuracy` first, then the proxies."""
    return [ACCURACY, *proxy_names()]


def proxy_of(name: str) -> Proxy | None:
    """The proxy of a cheap score's name; None for the accuracy. Raises UnknownNameError with the nearest name."""
    if name == ACCURACY:
        return None
    lookup("cheap score", name, dict.fromkeys(cheap_scores()))
    return proxy(name)


def require_cheap_score(name: str, images: int | None) -> None:
    """Raise UnknownNameError for an unknown cheap score, UsageError where it cannot be had of so many images."""
    if proxy_of(name) is not None and images is not None and images < _LEAST:
        raise UsageError(f"screening by {name} needs at least {_LEAST} images, got {images}; raise --screen")
