"""Batch statistics adaptation: only scales and shifts train. R rows (distinct classes), E class-vector width."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hmgan.components import register
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import AdaIN, Edits
from hmgan.modulation.base import Init, Modulation, adaptive_norms
from hmgan.types import Weight


@register("modulation", "scale-shift")
class ScaleShift(Modulation):
    """h' = (1 + g_v) * h + t_v after every adaptive normalisation, g and t linear in v: a free table per one-hot class.

    Noguchi & Harada 2019, arXiv:1904.01774, adapt the scales and shifts of batch norms. The instance norm after each of
    StyleGAN's convolutions undoes a scale of its output, so these act where the statistics are set: behind the norm.
    Unlike adain's, these heads have no bias, which would be a second scale and shift for all classes.

    Args:
        pull: weight in G's loss of the sum over norms of the mean g^2 and the mean t^2.
        init: "source" starts from the source network exactly; "align" from random numbers, to be self-aligned first;
            "random" from the same, left as they are.
    """

    def __init__(self, backbone: Backbone, dim: int, *, pull: Weight = 0.02, init: Init = "source") -> None:
        super().__init__()
        norms = adaptive_norms(backbone, "scale-shift")
        start = torch.zeros if init == "source" else torch.randn
        self.pull, self.names = pull, list(norms)
        self.scales, self.shifts = (
            nn.ParameterList(nn.Parameter(start(dim, norm.channels)) for norm in norms.values()) for _ in range(2)
        )

    def forward(self, v_RE: Tensor) -> Edits:
        tables = zip(self.names, self.scales, self.shifts, strict=True)
        return Edits(styles={name: AdaIN(v_RE @ g_EC, v_RE @ t_EC) for name, g_EC, t_EC in tables}, rows=len(v_RE))

    def penalties(self) -> Mapping[str, Tensor]:
        sizes = torch.stack([table_EC.square().mean() for table_EC in (*self.scales, *self.shifts)])
        return {"loss/scale-shift": self.pull * sizes.sum()}
