"""What is minimised: one task per file."""
