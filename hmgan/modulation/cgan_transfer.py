"""cGANTransfer (Shahbazi et al. 2021). R rows (distinct classes), E class-vector width, K old classes, C channels."""

from __future__ import annotations

import torch

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.modulation.propagation import NormPropagation, Propagations, Start
from hmgan.types import Weight


@register("modulation", "cgan-transfer")
class CGANTransfer(Propagations):
    """Scale 1 + P(S(c)) + Z(z) + R(c) and a shift alike: replaces the class's part of the source and keeps z's, Z.

    P is the old classes' table as it acts in the source; the released code leaves the source's spectral norm out and
    applies one of its own, which recovers old classes only up to scale.

    Args:
        l1: weight of sum over layers of mean |S| in G's loss.
        l2: weight of sum over layers of mean R^2 in G's loss.
        init: "source" starts every class at the mean of the old classes; "orthogonal" from orthogonal S and R, as the
            released code; "align" likewise, to be aligned first.

    Raises: UserError for a source that is not class-conditional.
    """

    def __init__(
        self, backbone: Backbone, dim: int, *, l1: Weight = 0.01, l2: Weight = 0.1, init: Start = "orthogonal"
    ) -> None:
        old = backbone.old_classes()
        if not old:
            problem = "needs a class-conditional source, and this source has no classes"
            raise UserError(f"modulation cgan-transfer {problem}; use cgan-transfer-port")
        shares = {name: torch.full_like(scale_KC[:, 0], 1 / len(scale_KC)) for name, (scale_KC, _) in old.items()}
        norms = (NormPropagation(*parts, shares[name], dim, init) for name, parts in old.items())
        super().__init__(old, norms, l1, l2)
