"""Adversarial objectives on logits of the samples' own classes. B batch."""

from __future__ import annotations

from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register


class Adversarial(Protocol):
    """What D and G minimise against each other."""

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor: ...
    def gen(self, fake_B: Tensor) -> Tensor: ...


@register("adversarial", "logistic")
class Logistic(nn.Module):
    """The non-saturating logistic GAN loss, Eq. 8. Logits [B] -> scalar."""

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """-log sigmoid(D(x, c)) - log(1 - sigmoid(D(G(z, c), c)))."""
        return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()

    def gen(self, fake_B: Tensor) -> Tensor:
        """-log sigmoid(D(G(z, c), c)): the non-saturating form."""
        return F.softplus(-fake_B).mean()
