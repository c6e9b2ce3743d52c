"""Bytes from anywhere: stores, folders, the cache on the disk."""
