"""The search: strategies, archive, executors and the loop."""
