"""Residuals, the ways in which a mixer joins the stream: adding a file here adds an operator."""
