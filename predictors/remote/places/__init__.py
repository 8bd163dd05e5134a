"""Places: adding a file here adds one that a target may name behind its `@`."""
