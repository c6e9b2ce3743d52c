"""What people look at: image grids and pages."""
