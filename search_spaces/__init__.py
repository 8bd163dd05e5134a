"""Search spaces: architectures as graphs, the operators, and the builder."""
