"""A chip whose times and joules we know: both follow from a network's MACs, and it takes power while it rests."""

import contextlib
import time
import types

from nas.predictors import meter as meters
from nas.predictors import runtime as runtimes
from nas.predictors.cost import module_cost

TARGET = "toychip:metered,threads=1,batch=1,precision=fp32"
RESTING, WORKING = 2.0, 3.0
CHIP = {"joules": 0.0, "broken": ""}


def seconds_of(macs):
    return 5e-5 + 2e-9 * macs


def joules_of(macs):
    """Of a run, beyond rest."""
    return WORKING * seconds_of(macs) + 4e-9 * macs


class MeteredRuntime:
    """Keeps a core busy for as long as the chip would take, and lets the chip spend its joules."""

    name = "metered"
    supports = types.MappingProxyType({"toychip": ("fp32",)})
    preparation = 0.01

    def prepare(self, model, example, target):
        macs = module_cost(model, (example[:1],)).macs

        def run():
            end = time.perf_counter() + seconds_of(macs)
            while time.perf_counter() < end:
                pass
            CHIP["joules"] += joules_of(macs)

        return run

    def version(self):
        return "metered 1.0"


class ToyMeter:
    name = "toy"
    devices = ("toychip",)
    counts = "the whole chip"
    interval = 2e-5

    def start(self):
        if CHIP["broken"]:
            from nas.errors import MeasurementError

            raise MeasurementError(CHIP["broken"])
        began, before = time.perf_counter(), CHIP["joules"]
        return lambda: RESTING * (time.perf_counter() - began) + CHIP["joules"] - before


def announce():
    """What the package's entry point calls for."""
    runtimes.register(MeteredRuntime)
    meters.register_meter(ToyMeter)


@contextlib.contextmanager
def announced():
    """The chip in this process, and without it again afterwards."""
    runtimes.names(), meters.meter_names()
    announce()
    try:
        yield
    finally:
        del runtimes._REGISTRY["metered"], meters._REGISTRY["toy"]


def install(folder):
    """Announce the chip to every process that has `folder` and this one's folder on its path."""
    info = folder / "toychip-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toychip\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nas.runtimes]\nmetered = toy_chip\n[nas.meters]\ntoy = toy_chip\n")
    (folder / "toy_chip.py").write_text("import toy_meter\n\ntoy_meter.announce()\n")
