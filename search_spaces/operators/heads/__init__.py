"""Heads, which read the logits from the last map: adding a file here adds an operator."""
