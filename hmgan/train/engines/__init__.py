"""How what trains lies over the ranks: one engine per file."""
