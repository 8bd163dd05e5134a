"""Downsamplings: adding a file here adds an operator."""
