"""What a contrastive loss on the discriminator is given, and what it returns. B spans all ranks; F features."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

Pair = tuple[Tensor, Tensor]


class Evidence(NamedTuple):
    """The D phase's results, gathered over the ranks. Views are a function: they cost D four batches."""

    real_logit_B: Tensor
    fake_logit_B: Tensor
    views: Callable[[], tuple[Pair, Pair]]  # -> embeddings [B, F] of two augmentations of the reals, and of the fakes


class Contrastive(Protocol):
    def __call__(self, evidence: Evidence) -> Tensor: ...
