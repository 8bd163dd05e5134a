"""The agent that measures on a device. Everything here runs with the standard library and numpy alone."""
