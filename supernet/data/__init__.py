"""Data sources. Adding a file here adds one: it registers a function from a path to labelled images."""

from nas.supernet.data.base import DataSplits, ImageSet, load_data, source_names

__all__ = ["DataSplits", "ImageSet", "load_data", "source_names"]
