"""DiffAugment pixel by pixel, for single images; the numbers drawn are given."""

from __future__ import annotations

import torch


def augment(image, u):
    """image [C, H, H], u seven numbers in [0, 1)."""
    channels, height, width = image.shape
    x = image + (u[0] - 0.5)
    grey = sum(x[c] for c in range(channels)) / channels
    x = torch.stack([grey + 2 * u[1] * (x[c] - grey) for c in range(channels)])
    mean = x.sum() / x.numel()
    x = mean + (u[2] + 0.5) * (x - mean)
    reach, side = int(height / 8 + 0.5), int(height / 2 + 0.5)
    down, right = (int(v * (2 * reach + 1)) - reach for v in u[3:5])
    top, left = (int(v * (height + 1 - side % 2)) - side // 2 for v in u[5:7])
    out = torch.zeros_like(x)
    for i in range(height):
        for j in range(width):
            blank = top <= i < top + side and left <= j < left + side
            if 0 <= i - down < height and 0 <= j - right < width and not blank:
                out[:, i, j] = x[:, i - down, j - right]
    return out
