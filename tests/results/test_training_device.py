"""Where networks are trained: devices by name, and modules that come back from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nas.errors import UsageError
from nas.results import training_device
from nas.results.training_device import moved, require_here


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, int], None]:
    """Makes PyTorch find so many accelerators of a kind."""

    def have(kind: str | None, count: int) -> None:
        found = None if kind is None else torch.device(kind)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)

    return have


def test_devices_have_the_names_that_pytorch_gives_them(machine) -> None:
    machine("cuda", 2)
    names = ("cpu", "cuda", "cuda:1", "auto")
    assert [str(training_device.training_device(name)) for name in names] == ["cpu", "cuda", "cuda:1", "cuda"]
    machine(None, 0)
    assert [str(training_device.training_device(name)) for name in ("cpu", "auto")] == ["cpu", "cpu"]


@pytest.mark.parametrize(("name", "kind"), [("cuda:2", "cuda"), ("mps", "cuda"), ("cuda", None), ("meta", None)])
def test_a_device_that_is_not_there_is_refused(machine, name: str, kind: str | None) -> None:
    machine(kind, 2)
    with pytest.raises(UsageError, match=f"there is no device '{name}': torch .* use cpu"):
        training_device.training_device(name)


def test_a_name_that_pytorch_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="PyTorch knows no device 'gpu': write cpu, cuda"):
        training_device.training_device("gpu")


def test_workers_elsewhere_train_on_cpus(machine) -> None:
    machine("cuda", 2)
    require_here("cpu", elsewhere=True)
    require_here("cuda", elsewhere=False)
    with pytest.raises(UsageError, match="leave --device cuda away"):
        require_here("cuda", elsewhere=True)


class Traveller(nn.Linear):
    """Keeps where it was sent."""

    def __init__(self) -> None:
        super().__init__(1, 1)
        self.places: list[str] = []

    def to(self, place: object) -> Traveller:  # type: ignore[override]
        self.places.append(str(place))
        return self


def test_a_module_comes_back_also_after_an_error(machine) -> None:
    machine("cuda", 2)
    traveller = Traveller()
    with contextlib.suppress(KeyError), moved(traveller, "cuda:1"):
        assert traveller.places == ["cuda:1"]
        raise KeyError
    assert traveller.places == ["cuda:1", "cpu"]
    with moved(traveller, "cpu"):
        pass
    assert traveller.places == ["cuda:1", "cpu"]
