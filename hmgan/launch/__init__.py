"""Starting hmgan on many GPUs and machines."""
