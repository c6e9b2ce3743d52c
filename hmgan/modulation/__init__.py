"""From a class vector to edits of a source generator."""
