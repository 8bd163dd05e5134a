"""Real networks that a table only names, as amounts of what their own graphs run."""
