"""Targets on other machines: an agent on the device, and what talks to it from here."""
