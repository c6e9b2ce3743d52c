"""The conditional generator: a source backbone, a class net and a modulation.

Legend: B batch, R rows (distinct classes), E class-vector width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.layers.float32 import unrounded
from hmgan.types import GenOut, Latents


class TransferGenerator(nn.Module):
    """G(z, c): the source, edited by the class. Everything else - trainer, EMA, evaluation - knows only this.

    Args:
        source: a backbone.
        class_net: C(i; Psi), labels [R] -> class vectors [R, E].
        modulation: g(v; Phi), class vectors [R, E] -> Edits with R rows.
        tuned: what of the source requires gradients trains with the rest; otherwise it is frozen here.
    """

    source: Any  # a Backbone and an nn.Module
    outside = ""  # what of it reads its weights outside its passes

    def __init__(self, source: Backbone, class_net: nn.Module, modulation: nn.Module, tuned: bool = False) -> None:
        super().__init__()
        assert isinstance(source, nn.Module)
        self.source = source
        self.trained: Any = nn.ModuleDict({"class_net": class_net, "modulation": modulation})
        if tuned:
            self.trained["source"] = source
        else:
            source.requires_grad_(False)

    @property
    def backbone(self) -> Any:
        return self.source

    def with_trained(self, trained: Any) -> TransferGenerator:
        """The same source under other trained parts, such as their moving average."""
        parts = dict(trained.named_children())
        return TransferGenerator(parts.get("source", self.source), parts["class_net"], parts["modulation"])

    def parts(self) -> dict[str, tuple[nn.Module, bool]]:
        """Its networks by name, and whether a moving average of each is kept."""
        heads, classes = self.trained["modulation"], self.trained["class_net"]
        return {
            "source": (self.source, "source" in self.trained),
            "class net": (classes, True),
            "modulation": (heads, True),
        }

    def whole_state(self) -> dict[str, Tensor]:
        """Every tensor once: a source that trains is not named again among the trained parts."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("trained.source.")}

    @property
    def resolution(self) -> int:
        return self.source.resolution

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        return self.source.latents(keys, mixing)

    def edits(self, labels_R: Tensor) -> Edits:
        """One row of edits per label given: compute once per distinct class, reuse while the heads do not change."""
        return self.edits_of(self.trained["class_net"](labels_R))

    def edits_of(self, v_RE: Tensor) -> Edits:
        """One row of edits per class vector, for interpolation in the class space."""
        return self.trained["modulation"](v_RE)

    def penalties(self) -> Mapping[str, Tensor]:
        """What the modulation adds to G's loss, by name."""
        return self.trained["modulation"].penalties()

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        classes_R, row_B = labels_B.unique(return_inverse=True)
        # The tables are bound by reading the heads once: a copy in bfloat16 would cost more, and round gamma and beta.
        with unrounded(labels_B):
            edits = self.edits(classes_R)
        return self.render(latents, edits, row_B, truncation)

    def render(self, latents: Latents, edits: Edits, row_B: Tensor, truncation: float = 1.0) -> GenOut:
        """Images of sample b under row `row_B[b]` of the edits."""
        # Sort by row once, so that every site sees its classes as consecutive samples; put back at the end.
        counts = torch.bincount(row_B, minlength=edits.rows).tolist()
        order_B = row_B.argsort(stable=True)
        place_B = order_B.argsort()
        batch = Latents(
            latents.z[order_B],
            tuple(n[order_B] for n in latents.noise),
            latents.z_mix[order_B],
            latents.crossover_B[order_B],
        )
        out = self.source(batch, dataclasses.replace(edits, counts=tuple(counts)), truncation)
        return GenOut(out.image[place_B], tuple(f[place_B] for f in out.features))
