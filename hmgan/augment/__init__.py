"""What the discriminator is shown in place of images: augmentations of reals and fakes alike."""
