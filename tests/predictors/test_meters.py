"""The meters: RAPL by files of its format, NVML by a stand-in for its library, and which of several is asked."""

import sys
import types

import pytest
import torch

from nas.errors import MeasurementError, UnknownNameError, UsageError
from nas.predictors import meter as registry
from nas.predictors.meter import meter, meter_names, meter_of, register_meter
from nas.predictors.meters import rapl
from nas.predictors.target import Target


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    """Two packages, one with memory of its own, whose counters start again at 100 J."""
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    domains = {"intel-rapl:0": "package-0", "intel-rapl:0:0": "core", "intel-rapl:0:1": "dram", "intel-rapl:1": "package-1"}
    for folder, name in {**domains, "intel-rapl:2": "psys"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "name").write_text(f"{name}\n")
        (tmp_path / folder / "max_energy_range_uj").write_text("100000000\n")
        (tmp_path / folder / "energy_uj").write_text("99000000\n")
    return tmp_path


def test_packages_and_their_memory_are_counted_across_a_new_start_and_nothing_twice(powercap):
    counter = meter("rapl").start()
    assert counter() == 0.0
    for folder, joules in (("intel-rapl:0", 99.5), ("intel-rapl:0:0", 99.4), ("intel-rapl:0:1", 99.25), ("intel-rapl:2", 99.9)):
        (powercap / folder / "energy_uj").write_text(f"{joules * 1e6:.0f}\n")
    assert counter() == pytest.approx(0.75)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("2000000\n")
    assert counter() == pytest.approx(0.75 + 3.0)
    (powercap / "intel-rapl:1" / "energy_uj").write_text("1000000\n")
    assert counter() == pytest.approx(0.75 + 3.0 + 99.0)


def test_a_machine_without_counters_says_so(powercap, monkeypatch):
    monkeypatch.setattr(rapl, "POWERCAP", powercap / "none")
    with pytest.raises(
        MeasurementError, match=r"rapl: .*none has no RAPL counters .*; go to a machine that counts it, or leave"
    ):
        meter_of(Target())


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj"])
def test_a_counter_that_holds_no_number_is_named(powercap, broken):
    (powercap / "intel-rapl:1" / broken).write_text("")
    with pytest.raises(MeasurementError, match=f"intel-rapl:1/{broken} cannot be read: it holds no number"):
        meter("rapl").start()


def test_a_counter_for_administrators_alone_is_told_with_the_remedy(powercap, monkeypatch):
    def forbidden(path, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_text", forbidden)
    with pytest.raises(MeasurementError, match=r"energy_uj may not be read; allow it by `sudo chmod a\+r"):
        rapl._number(powercap / "intel-rapl:0" / "energy_uj")


class NVMLError(Exception):
    pass


@pytest.fixture
def library(monkeypatch):
    """A stand-in for nvidia-ml-py on a machine with two GPUs, of which PyTorch sees the second alone."""
    found = types.SimpleNamespace(NVMLError=NVMLError, millijoules={"GPU-a": 5000, "GPU-b": 7000}, broken="")

    def energy(handle):
        if found.broken:
            raise NVMLError(found.broken)
        return found.millijoules[handle]

    found.nvmlInit = lambda: None
    found.nvmlDeviceGetHandleByUUID = lambda uuid: uuid
    found.nvmlDeviceGetTotalEnergyConsumption = energy
    monkeypatch.setitem(sys.modules, "pynvml", found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: types.SimpleNamespace(uuid="b"))
    return found


def test_the_board_that_pytorch_uses_is_counted_in_joules(library):
    counter = meter_of(Target.parse("cuda:eager")).start()
    library.millijoules = {"GPU-a": 50_000, "GPU-b": 9500}
    assert counter() == pytest.approx(2.5)


def test_a_gpu_that_counts_nothing_says_so(library):
    counter = meter("nvml").start()
    library.broken = "Not Supported"
    for read in (counter, meter("nvml").start):
        with pytest.raises(MeasurementError, match="the GPU's counter cannot be read: Not Supported"):
            read()


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MeasurementError, match=r"nvml: the package nvidia-ml-py is missing; pip install 'hybrid-nas\[nvml\]'"):
        meter_of(Target.parse("cuda"))


def test_a_machine_without_a_gpu_says_so(library, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MeasurementError, match="finds no CUDA device"):
        meter("nvml").start()


class Plug:
    name = "plug"
    devices = ("cpu", "npu")
    counts = "everything behind the plug"
    interval = 1.0

    def start(self):
        return lambda: 0.0


def test_another_packages_meter_is_asked_first_and_its_name_is_its_own(powercap, monkeypatch):
    assert {"rapl", "nvml"} <= set(meter_names())
    assert meter_of(Target()).name == "rapl"
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    register_meter(Plug)
    assert meter_of(Target()).name == "plug"
    with pytest.raises(UsageError, match="meter 'plug' is registered twice"):
        register_meter(type("Other", (Plug,), {}))
    with pytest.raises(UnknownNameError, match="Did you mean 'rapl'"):
        meter("rap")
    monkeypatch.setattr(Plug, "start", lambda self: (_ for _ in ()).throw(MeasurementError("unplugged")))
    assert meter_of(Target()).name == "rapl"
    monkeypatch.setattr(rapl, "POWERCAP", powercap / "none")
    with pytest.raises(MeasurementError, match=r"\(plug: unplugged; rapl: .* has no RAPL counters"):
        meter_of(Target())


def test_the_energy_of_a_device_elsewhere_is_not_counted():
    with pytest.raises(MeasurementError, match="agents measure times alone; profile a target of this machine"):
        meter_of(Target.parse("cpu:onnxruntime@folder:/shared"))
