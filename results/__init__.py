"""Run folders, export, and the report."""
