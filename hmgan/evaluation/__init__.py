"""A generator against images: features, fakes, scores per class, the card."""
