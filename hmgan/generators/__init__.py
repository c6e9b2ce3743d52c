"""Generators: a source under a modulation or as it is; built from an experiment, read from disk, folded."""
