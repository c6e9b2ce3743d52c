"""What every modulation scheme is: class vectors in, edits out, and perhaps a term of G's loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone, NormSite
from hmgan.layers.edits import Edits

# Heads that start from the source, exactly; random ones, to be self-aligned first; and random ones, left as they are.
Init = Literal["source", "align", "random"]


class Modulation(nn.Module, ABC):
    """g(v; Phi): class vectors [R, E] -> Edits with R rows."""

    edits_weights: ClassVar[bool] = False  # whether there are gamma, beta and b to take apart
    note = ""  # what of it is worth a line when a run starts

    @abstractmethod
    def forward(self, v_RE: Tensor) -> Edits: ...

    def penalties(self) -> Mapping[str, Tensor]:
        """What G minimises besides the adversarial loss, weighted, by name; most schemes add nothing."""
        return {}


def adaptive_norms(backbone: Backbone, scheme: str) -> Mapping[str, NormSite]:
    """The source's adaptive normalisations. Raises UserError if it has none, for a scheme that edits nothing else."""
    norms = backbone.norms()
    if not norms:
        raise UserError(f"modulation {scheme} edits adaptive normalisations, and this source has none; use adafm")
    return norms
