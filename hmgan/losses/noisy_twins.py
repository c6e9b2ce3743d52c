"""NoisyTwins (Rangwani et al. 2023, arXiv:2304.05866). B batch, R distinct classes, E class vector, F features."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan import rng
from hmgan.components import register
from hmgan.layers.float32 import unrounded, widened
from hmgan.losses.barlow_twins import redundancy_of_many
from hmgan.losses.base import Adaptation, Conditioned
from hmgan.types import GenOut, Weight

PIXELS = 4


@register("gen-penalty", "noisy-twins")
class NoisyTwins:
    """Barlow Twins between two renderings of the same z under two noisy copies of each class's vector v.

    A sample's features must not depend on the noise, and not be those of the other samples. The paper's noise is on the
    class embedding and its features are w, which has no class in a transfer: here the noise is on v, and the features
    are every block's output, averaged down to 4 px: the mean of a whole map would be its normalisation's shift. It
    costs two more passes of G.

    Args:
        weight: of the penalty in G's loss.
        sigma: standard deviation of the noise, in units of the root mean square of v.
        off_diagonal: weight of the redundancy term; 0.005 to 0.05 in the paper.
    """

    needs: ClassVar = {"modulation": "puts noise on the class vector"}
    copies = False
    least = 2

    def __init__(self, *, weight: Weight = 1e-3, sigma: Weight = 0.25, off_diagonal: Weight = 5e-3) -> None:
        self.weight, self.sigma, self.off_diagonal = weight, sigma, off_diagonal

    def __call__(self, phase: Adaptation) -> Tensor:
        one, other = (phase.gather(layouts(self._twin(phase, stream))) for stream in ("twin-1", "twin-2"))
        return redundancy_of_many(one, other, self.off_diagonal)

    def _twin(self, phase: Adaptation, stream: str) -> GenOut:
        """The batch again, under noise that is a function of step and class: the same on every rank."""
        generator: Conditioned = phase.generator
        classes_R, row_B = phase.labels_B.unique(return_inverse=True)
        with unrounded(classes_R):
            v_RE = generator.class_vectors(classes_R)
            noise_RE = rng.normal_rows([rng.key(phase.key, stream, c) for c in classes_R.tolist()], v_RE.shape[1])
            scale_R1 = v_RE.detach().square().mean(1, keepdim=True).sqrt()
            edits = generator.edits_of(v_RE + self.sigma * scale_R1 * noise_RE.to(v_RE))
        return generator.render(phase.latents, edits, row_B)


def layouts(out: GenOut) -> Tensor:
    """[B, F], every block's channels at 4 px."""
    return torch.cat([F.adaptive_avg_pool2d(widened(block), PIXELS).flatten(1) for block in out.features], 1)
