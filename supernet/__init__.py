"""The supernet: a parameter store and views of it, its training, and its data."""
