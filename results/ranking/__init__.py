"""How far a supernet's ranking can be trusted: probes trained alone, and how their order agrees with the supernet's."""
