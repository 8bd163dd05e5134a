"""Data sources: adding a file here adds one."""
