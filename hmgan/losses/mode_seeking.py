"""Mode seeking: images of one class that differ. B batch, N samples over all ranks, P pairs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan.components import register
from hmgan.layers.float32 import widened
from hmgan.losses.base import Adaptation
from hmgan.types import Weight

SMALLEST = 0.05  # keeps the penalty finite where all images of a class are one
NO_PAIR = (
    "gen_penalty mode-seeking: a batch without two images of one class adds nothing; "
    "loader.stratified with loader.group = 2 or more gives each batch pairs"
)


@register("gen-penalty", "mode-seeking")
class ModeSeeking:
    """1 / (mean |G(z1, c) - G(z2, c)| + 0.05) over pairs of one class in the batch, of images averaged over 2x2 pixels.

    Mao et al. 2019, arXiv:1903.05628, without the distance of z, whose mean hardly varies. Each image and the next one
    of its class in the global batch are a pair: no image is rendered for it. A batch without pairs adds nothing.

    Args:
        weight: of the penalty in G's loss.
    """

    copies = False
    least = 2

    def __init__(self, *, weight: Weight = 0.1) -> None:
        self.weight = weight

    def __call__(self, phase: Adaptation) -> Tensor:
        pixels = phase.gather(F.avg_pool2d(widened(phase.out.image), 2))
        first_P, second_P = pairs(phase.gather(phase.labels_B))
        if not len(first_P):
            if torch.is_grad_enabled():  # the pass before microbatches has made-up rows
                phase.say(NO_PAIR)
            return 0.0 * pixels.sum()
        return 1 / ((pixels[first_P] - pixels[second_P]).abs().mean() + SMALLEST)


def pairs(labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """[P] each: every sample that another one of its class follows, and that one."""
    order_N = labels_N.argsort(stable=True)
    first, second = order_N[:-1], order_N[1:]
    same = labels_N[first] == labels_N[second]
    return first[same], second[same]
