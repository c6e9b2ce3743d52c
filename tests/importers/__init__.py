"""A package, so that test files of one name can live in several folders."""
