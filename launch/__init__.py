"""Files that start hmgan on many GPUs and machines: they run as they stand, and `hmgan launch` runs these very ones."""
