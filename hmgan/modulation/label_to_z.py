"""Classes from scratch: numbers of the class beside z, and no edit of a weight. R rows, E class-vector width."""

from __future__ import annotations

from torch import Tensor

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.layers.equalized import EqualLinear
from hmgan.modulation.base import Modulation


@register("modulation", "label-to-z")
class LabelToZ(Modulation):
    """A linear map of v joins z at the mapping's input: the released code's generator from scratch.

    For pretraining with labels; the backbone's `label_dim` says how many numbers.

    Raises: UserError for a backbone whose mapping takes no class, such as that of a source without labels.
    """

    def __init__(self, backbone: Backbone, dim: int) -> None:
        super().__init__()
        if backbone.label_dim < 1:
            problem = "wants a mapping network that takes a class, and this one does not"
            raise UserError(f"modulation label-to-z {problem}; train from scratch with --set backbone.label_dim=N")
        self.label = EqualLinear(dim, backbone.label_dim)

    def forward(self, v_RE: Tensor) -> Edits:
        return Edits(label_RL=self.label(v_RE), rows=len(v_RE))
