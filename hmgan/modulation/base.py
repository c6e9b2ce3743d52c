"""What every modulation scheme is: class vectors in, edits out, and perhaps a word in G's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone, NormSite


class Modulation(nn.Module):
    """g(v; Phi): class vectors [R, E] -> Edits with R rows."""

    edits_weights: ClassVar[bool] = False  # whether there are gamma, beta and b to take apart

    def penalties(self) -> Mapping[str, Tensor]:
        """What G minimises besides the adversarial loss, weighted, by name; most schemes add nothing."""
        return {}


def adaptive_norms(backbone: Backbone, scheme: str) -> Mapping[str, NormSite]:
    """The source's adaptive normalisations. Raises UserError if it has none, for a scheme that edits nothing else."""
    norms = backbone.norms()
    if not norms:
        raise UserError(f"modulation {scheme} edits adaptive normalisations, and this source has none; use adafm")
    return norms
