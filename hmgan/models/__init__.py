"""Generators as their users have them: what `hmgan.load` gives."""
