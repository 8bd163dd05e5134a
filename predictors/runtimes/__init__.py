"""Runtimes: adding a file here adds one that can be measured."""
