class Clock:
    """Simulated seconds: work advances it, by `slowness(now)` times what the work says."""

    def __init__(self, slowness=lambda now: 1.0):
        self.now, self.slowness = 0.0, slowness

    def __call__(self):
        self.now += 5e-8
        return self.now

    def work(self, seconds, noise=0.0, rng=None):
        def run():
            factor = 1.0 if rng is None else rng.lognormvariate(0, noise)
            self.now += seconds * factor * self.slowness(self.now)

        return run
