"""What candidates are screened by: the supernet's loss or accuracy on few images, or a zero-cost proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nas.errors import UsageError
from nas.plugins import lookup
from nas.predictors.proxies import Proxy, proxy, proxy_names
from nas.supernet.calibration import Score

LOSS, ACCURACY = "loss", "accuracy"
MEASURED: Mapping[str, Callable[[Score], float]] = {LOSS: lambda found: -found.loss, ACCURACY: lambda found: found.accuracy}
"""The cheap scores that scoring some images gives, more being better. Few images tell the loss far better than the accuracy."""
_LEAST = 2


def cheap_scores() -> list[str]:
    """The names of all cheap scores, the proxies last."""
    return [*MEASURED, *proxy_names()]


def proxy_of(name: str) -> Proxy | None:
    """The proxy of a cheap score's name; None for what images are scored for. Raises UnknownNameError, with the nearest."""
    lookup("cheap score", name, dict.fromkeys(cheap_scores()))
    return None if name in MEASURED else proxy(name)


def require_cheap_score(name: str, images: int | None) -> None:
    """Raise UnknownNameError for an unknown cheap score, UsageError where it cannot be had of so many images."""
    if proxy_of(name) is not None and images is not None and images < _LEAST:
        raise UsageError(f"screening by {name} needs at least {_LEAST} images, got {images}; raise --screen")
