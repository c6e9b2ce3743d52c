"""Studies: a matrix of methods, targets and seeds, run cell by cell, and its report."""
