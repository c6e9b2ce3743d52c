"""Source generators, one architecture per file."""
