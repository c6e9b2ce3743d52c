"""Foreign checkpoints, one format per file; nothing else knows their names."""
