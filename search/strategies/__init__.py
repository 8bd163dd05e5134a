"""Search strategies: adding a file here adds one."""
