import itertools

import pytest

from nas.errors import MeasurementError
from nas.predictors.energy import measure_energy


class Machine:
    """A package that takes 10 W idle and 3 J a run of 0.1 s more; its counter starts again at 100 J."""

    def __init__(self, root):
        self.time = self.joules = 0.0
        self.package = root / "intel-rapl:0"
        for folder in (self.package, root / "intel-rapl:0:0"):
            folder.mkdir()
            (folder / "max_energy_range_uj").write_text("100000000")
        self.pass_time(0.0, 60.0)

    def pass_time(self, seconds, joules):
        self.time += seconds
        self.joules += joules
        for folder in self.package.parent.iterdir():
            (folder / "energy_uj").write_text(str(round(self.joules * 1e6) % 100_000_000))

    def run(self):
        self.pass_time(0.1, 4.0)

    def sleep(self, seconds):
        self.pass_time(seconds, 10 * seconds)


def test_the_energy_of_a_run_is_told_with_the_idle_share(tmp_path):
    machine = Machine(tmp_path)
    found = measure_energy(machine.run, 1.0, tmp_path, lambda: machine.time, machine.sleep)
    assert found.runs in (10, 11)
    assert found.joules == pytest.approx(4.0)
    assert found.idle == pytest.approx(1.0)
    assert found.net == pytest.approx(3.0)


def test_a_machine_without_counters_says_so(tmp_path):
    with pytest.raises(MeasurementError, match="not measurable here"):
        measure_energy(lambda: None, root=tmp_path)


@pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj"])
def test_a_counter_that_cannot_be_read_is_named(tmp_path, broken):
    machine = Machine(tmp_path)
    (machine.package / broken).write_text("")
    ticks = itertools.count()
    with pytest.raises(MeasurementError, match=broken):
        measure_energy(lambda: None, root=tmp_path, clock=lambda: next(ticks), sleep=lambda seconds: None)
