"""How good the fakes are: feature extractors, distances between feature sets, and scores per class."""
