"""What a regulariser of the discriminator's logits is given, and what it returns. B spans all ranks."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Regularizer(Protocol):
    """A module: what it remembers from step to step is in its buffers, which checkpoints hold."""

    weight: float

    def __call__(self, real_B: Tensor, fake_B: Tensor) -> Tensor: ...
