"""Executors: where candidates are evaluated."""
