"""What a contrastive loss on the discriminator is given, and what it returns. B spans all ranks; F features."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

Views = Callable[[], tuple[Tensor, Tensor]]


class Evidence(NamedTuple):
    """The D phase's results, gathered over the ranks. Views are functions: they cost D two batches each."""

    real_logit_B: Tensor
    fake_logit_B: Tensor
    real_views: Views  # -> embeddings [B, F] of two augmentations of the real images
    fake_views: Views  # the same of the fakes that the adversarial term saw


class Contrastive(Protocol):
    def __call__(self, evidence: Evidence) -> Tensor: ...
