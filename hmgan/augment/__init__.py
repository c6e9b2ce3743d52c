"""Augmentations of what the discriminator sees, reals and fakes alike."""
