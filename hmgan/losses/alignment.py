"""Self-alignment: pulls a transfer generator with random heads to its source, without data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hmgan.layers.float32 import widened


def alignment_loss(source: Sequence[Tensor], transferred: Sequence[Tensor]) -> Tensor:
    """Sum over blocks of the mean absolute difference of their features, Eq. 6.

    The paper sums absolute values; the released code takes each block's mean, which makes blocks comparable.
    Shapes: a sequence of [B, C, H, W] each -> scalar.
    """
    return torch.stack([(widened(s) - widened(t)).abs().mean() for s, t in zip(source, transferred, strict=True)]).sum()
