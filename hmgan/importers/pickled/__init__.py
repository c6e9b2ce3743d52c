"""Pickles and PyTorch files, read as data: nothing of a file is ever imported, called or run."""
