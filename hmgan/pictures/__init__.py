"""Pictures of images: grids, strips, PNG."""
