from nas.predictors.timings import FELT


class Clock:
    """Simulated seconds: work advances it by what it says, times what it feels of `slowness(now)`, an anchor all of it."""

    def __init__(self, slowness=lambda now: 1.0):
        self.now, self.slowness, self._last = 0.0, slowness, None

    def __call__(self):
        self.now += 5e-8
        return self.now

    def anchor(self, seconds, cold=0.0):
        """Work that feels all of the slowness."""
        return self.work(seconds, cold=cold, felt=1.0)

    def work(self, seconds, noise=0.0, rng=None, cold=0.0, felt=FELT):
        """Work that takes `cold` seconds more when it is run for the first time after other work."""

        def run():
            factor = 1.0 if rng is None else rng.lognormvariate(0, noise)
            extra = 0.0 if self._last is run else cold
            self._last = run
            self.now += (seconds * factor + extra) * self.slowness(self.now) ** felt

        return run
