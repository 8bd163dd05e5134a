"""Cost, measuring, and the latency predictor."""
