"""The command line: declarations alone."""
