"""Token mixers: adding a file here adds an operator."""
