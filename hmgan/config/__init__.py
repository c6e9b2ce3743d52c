"""The configuration of a run: registry entries, strict models, overrides."""
