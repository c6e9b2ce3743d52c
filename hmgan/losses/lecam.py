"""LeCam regularisation (Tseng et al. 2021). B batch over all ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.types import Share, Weight


@register("regularizer", "lecam")
class LeCam(nn.Module):
    """Keeps D's logits near moving averages of the other side's, so that D does not run away on few images.

    E[relu(D(x) - a_fake)^2] + E[relu(a_real - D(G(z)))^2], with anchors a that average the steps' mean logits, this
    one's included. As in the authors' code, only what lies beyond an anchor counts; the paper squares all of it.

    Args:
        weight: lambda. The paper has 0.3 for BigGAN with the hinge loss and 3e-7 for StyleGAN2 with ADA.
        decay: of the moving averages, per step.

    Shapes: real_B, fake_B -> scalar.
    Raises: UserError if the decay is not from 0 to below 1.
    """

    anchor_real: Tensor
    anchor_fake: Tensor
    steps: Tensor

    def __init__(self, *, weight: Weight = 0.3, decay: Share = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise UserError(f"regularizer.decay must be from 0 to below 1, got {decay}")
        self.weight, self.decay = weight, decay
        self.register_buffer("anchor_real", torch.zeros(()))
        self.register_buffer("anchor_fake", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        decay = torch.where(self.steps > 0, self.decay, 0.0)
        self.steps += 1
        self.anchor_real = self._moved(self.anchor_real, real_B, decay)
        self.anchor_fake = self._moved(self.anchor_fake, fake_B, decay)
        return F.relu(real_B - self.anchor_fake).square().mean() + F.relu(self.anchor_real - fake_B).square().mean()

    @staticmethod
    def _moved(anchor: Tensor, logit_B: Tensor, decay: Tensor) -> Tensor:
        return decay * anchor + (1 - decay) * logit_B.detach().mean().to(anchor.dtype)
