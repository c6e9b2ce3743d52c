"""Filtering between resolutions, as StyleGAN2 and 3 do it. B batch, C channels, H/W pixels, n taps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BINOMIAL = (1.0, 3.0, 3.0, 1.0)
# Up to so many pixels, a product with a matrix of mostly zeros takes a fraction of a depthwise convolution's time.
DENSE = 256
Pads = tuple[int, int, int, int]  # left, right, top, bottom; negative ones crop


def normalised_filter(taps: Sequence[float]) -> Tensor:
    """[n], of sum 1: both axes take it, one after the other."""
    filter_n = torch.tensor(taps, dtype=torch.float64)
    return (filter_n / filter_n.sum()).to(torch.get_default_dtype())


def resample(x: Tensor, taps: Tensor, *, up: int = 1, down: int = 1, pads: Pads = (0, 0, 0, 0)) -> Tensor:
    """Zeros between pixels (`up` - 1 of them), padding, convolution times up^2, and every `down`-th pixel.

    Either `up` or `down` is 1.

    Args:
        taps: [n] for both axes, or [n, n] for a filter that is no outer product.

    Shapes: x [B, C, H, W] -> [B, C, H', W'], H' = (H up + top + bottom - n) // down + 1.
    """
    taps = taps.to(x.dtype)
    if taps.dim() == 2:
        return _along(x, taps.flip(0, 1) * up**2, up, down, pads)
    left, right, top, bottom = pads
    if max(x.shape[2:]) * up <= DENSE:
        down_OH = band_matrix(taps, x.shape[2], up, down, (top, bottom))
        return down_OH @ (x @ band_matrix(taps, x.shape[3], up, down, (left, right)).T)
    # The axis that grows comes last, and the one that shrinks first.
    x = _along(x, taps.flip(0)[None] * up, (1, up), (1, down), (left, right, 0, 0))
    return _along(x, taps.flip(0)[:, None] * up, (up, 1), (down, 1), (0, 0, top, bottom))


def band_matrix(taps: Tensor, size: int, up: int, down: int, pads: tuple[int, int]) -> Tensor:
    """One axis of `resample` as a matrix [out, size]."""
    n, before, after = len(taps), *pads
    out = torch.arange((size * up + before + after - n) // down + 1, device=taps.device)
    tap = torch.arange(size, device=taps.device) * up + before - out[:, None] * down
    inside = (tap >= 0) & (tap < n)
    return (taps.flip(0) * up)[tap.clamp(0, n - 1)] * inside


def _along(x: Tensor, taps_kk: Tensor, up: int | tuple[int, int], down: int | tuple[int, int], pads: Pads) -> Tensor:
    """The correlation with `taps_kk`, depthwise, zeros between pixels included."""
    channels = x.shape[1]
    kernel = taps_kk.expand(channels, 1, *taps_kk.shape)
    if up in (1, (1, 1)):
        return F.conv2d(F.pad(x, pads) if any(pads) else x, kernel, stride=down, groups=channels)
    # A transposed convolution is the whole convolution of the stuffed signal: what padding would have cut is cropped.
    rows, columns = taps_kk.shape
    ups = (up, up) if isinstance(up, int) else up
    whole = F.conv_transpose2d(x, kernel.flip(2, 3), stride=ups, groups=channels)
    left, right, top, bottom = pads
    crop = (
        left - columns + 1,
        right - columns + ups[1],
        top - rows + 1,
        bottom - rows + ups[0],
    )
    return F.pad(whole, crop)
