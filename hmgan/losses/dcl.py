"""Dual contrastive loss (Yu et al. 2021). B batch over all ranks."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.components import register
from hmgan.losses.adversarial import Reals
from hmgan.losses.base import Evidence
from hmgan.types import Weight


def dual_contrastive(real_B: Tensor, fake_B: Tensor) -> Tensor:
    """mean_i softplus(LSE_j t_j - s_i) + mean_j softplus(t_j + LSE_i(-s_i)) with s real and t fake logits.

    Each real is told from all fakes, and each fake from all reals. Sums inside: the loss grows with log B.
    """
    against_fakes = F.softplus(fake_B.logsumexp(0) - real_B).mean()
    against_reals = F.softplus(fake_B + (-real_B).logsumexp(0)).mean()
    return against_fakes + against_reals


@register("contrastive", "dcl")
class DualContrastive(nn.Module):
    """The dual contrastive loss as a term of D's, on the adversarial logits; not decoupled contrastive learning.

    Args:
        weight: lambda_contr of Eq. 9.
    """

    uses_views: ClassVar = False

    def __init__(self, *, weight: Weight = 1e-3) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, evidence: Evidence) -> Tensor:
        return dual_contrastive(evidence.real_logit_B, evidence.fake_logit_B)


@register("adversarial", "dual-contrastive")
class DualContrastiveGame(nn.Module):
    """The dual contrastive loss as the adversarial objective itself. Logits [B] -> scalar.

    G's is the practical form, with the roles exchanged. A G that maximises D's loss, as the paper writes it, would
    learn least where D is surest.
    """

    compares = True

    def disc(self, real_B: Tensor, fake_B: Tensor) -> Tensor:
        return dual_contrastive(real_B, fake_B)

    def gen(self, fake_B: Tensor, reals: Reals) -> Tensor:
        return dual_contrastive(fake_B, reals())
