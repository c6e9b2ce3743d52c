"""Cross-domain correspondence. N samples over all ranks, D features of one sample."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan.components import register
from hmgan.layers.float32 import widened
from hmgan.losses.base import OF_FINE_TUNING, Adaptation, Transferred
from hmgan.types import Weight


@register("gen-penalty", "cdc")
class Correspondence:
    """KL(source || adapted) of which samples of a batch resemble which, in the features of one random block.

    Ojha et al. 2021, arXiv:2104.06820, Eqs. 2-4: for each sample the softmax over the others of the cosine similarity
    of their features, in the source and in the generator that trains, from the same latents. It is the mean over the
    N x (N - 1) entries, as in the authors' code, so that the paper's weight of 1000 is this one's. The block at 4 px,
    which sees no other resolution, is not drawn.

    Args:
        weight: of the penalty in G's loss.
    """

    excludes: ClassVar = OF_FINE_TUNING
    copies = True
    least = 3  # with two samples each has one other, and both distributions are 1

    def __init__(self, transferred: Transferred, *, weight: Weight = 1.0) -> None:
        self.weight = weight
        self._source = transferred.source

    def __call__(self, phase: Adaptation) -> Tensor:
        with torch.no_grad():
            source = self._source(phase.latents).features
        block = 1 + phase.key % (len(source) - 1)
        target, origin = (likeness(phase.gather(maps[block])) for maps in (phase.out.features, source))
        return (origin.exp() * (origin - target)).mean()


def likeness(features_NCHW: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, N - 1], log softmax over the other samples of the cosine similarities."""
    unit_ND = F.normalize(widened(features_NCHW).flatten(1), dim=1)
    count = len(unit_ND)
    # Row by row and without the first, every (N + 1)-th is on the diagonal. A mask's count would be read back.
    others = (unit_ND @ unit_ND.T).flatten()[1:].view(count - 1, count + 1)[:, :-1]
    return others.reshape(count, count - 1).log_softmax(1)
