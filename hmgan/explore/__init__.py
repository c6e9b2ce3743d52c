"""A page to explore trained models with: a server of the standard library, and the page's own files."""
