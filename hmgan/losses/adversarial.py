"""Adversarial objectives on logits of the samples' own classes. B batch over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register

Reals = Callable[[], Tensor]


class Adversarial(Protocol):
    """What D and G minimise against each other. Logits are of the global batch, so that samples may be compared.

    `reals` gives D's logits of the step's real images, without gradients: a function, since it costs D a pass.
    """

    compares: bool  # whether it is not a mean over samples; comparing them costs a step in microbatches another pass

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor: ...
    def gen(self, fake_B: Tensor, reals: Reals) -> Tensor: ...


@register("adversarial", "logistic")
class Logistic(nn.Module):
    """The non-saturating logistic GAN loss, Eq. 8. Logits [B] -> scalar."""

    compares = False

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """-log sigmoid(D(x, c)) - log(1 - sigmoid(D(G(z, c), c)))."""
        return F.softplus(-real_B).mean() + F.softplus(fake_B).mean()

    def gen(self, fake_B: Tensor, reals: Reals) -> Tensor:
        """-log sigmoid(D(G(z, c), c))."""
        return F.softplus(-fake_B).mean()


@register("adversarial", "hinge")
class Hinge(nn.Module):
    """The hinge GAN loss (Lim and Ye 2017; Miyato et al. 2018, Eqs. 16 and 17). Logits [B] -> scalar."""

    compares = False

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        """max(0, 1 - D(x, c)) + max(0, 1 + D(G(z, c), c))."""
        return F.relu(1 - real_B).mean() + F.relu(1 + fake_B).mean()

    def gen(self, fake_B: Tensor, reals: Reals) -> Tensor:
        return -fake_B.mean()
