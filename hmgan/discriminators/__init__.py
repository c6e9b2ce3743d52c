"""Discriminators, one architecture per file."""
