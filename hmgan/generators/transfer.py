"""The conditional generator: backbone, class net, modulation. B batch, R rows (distinct classes), E class vector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from hmgan.generators.base import Generator
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.layers.float32 import unrounded
from hmgan.modulation.base import Modulation
from hmgan.types import GenOut, Latents


class TransferGenerator(Generator):
    """G(z, c): the source, edited by the class.

    Args:
        source: a backbone.
        class_net: C(i; Psi), labels [R] -> class vectors [R, E].
        modulation: g(v; Phi), class vectors [R, E] -> Edits with R rows.
        tuned: whether the source's parameters that require gradients train too; otherwise it is frozen here.
    """

    trained: nn.ModuleDict

    def __init__(self, source: Backbone, class_net: nn.Module, modulation: Modulation, tuned: bool = False) -> None:
        super().__init__()
        self.source = source
        self.trained = nn.ModuleDict({"class_net": class_net, "modulation": modulation})
        self.note = modulation.note
        if tuned:
            self.trained["source"] = source
        else:
            source.requires_grad_(False)

    @property
    def backbone(self) -> Backbone:
        return self.source

    @property
    def modulation(self) -> Modulation:
        """From class vectors to edits."""
        return cast(Modulation, self.trained["modulation"])

    def with_trained(self, trained: nn.Module) -> TransferGenerator:
        parts: dict[str, Any] = dict(trained.named_children())
        return TransferGenerator(parts.get("source", self.source), parts["class_net"], parts["modulation"])

    def parts(self) -> dict[str, tuple[nn.Module, bool]]:
        source = {"source": (self.source, "source" in self.trained)}
        return {**source, "class net": (self.trained["class_net"], True), "modulation": (self.modulation, True)}

    def whole_state(self) -> dict[str, Tensor]:
        """Every tensor once: not again among the trained parts those of a source that trains."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("trained.source.")}

    def edits(self, labels_R: Tensor) -> Edits:
        """One row of edits per label: computed once per distinct class, and valid while the heads do not change."""
        return self.edits_of(self.trained["class_net"](labels_R))

    def edits_of(self, v_RE: Tensor) -> Edits:
        """One row of edits per class vector, for interpolation in the class space."""
        return self.modulation(v_RE)

    def penalties(self) -> Mapping[str, Tensor]:
        return self.modulation.penalties()

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        classes_R, row_B = labels_B.unique(return_inverse=True)
        # Reading the heads once is all the tables cost: a bfloat16 copy would cost more, and round gamma and beta.
        with unrounded(labels_B):
            edits = self.edits(classes_R)
        return self.render(latents, edits, row_B, truncation)

    def render(self, latents: Latents, edits: Edits, row_B: Tensor, truncation: float = 1.0) -> GenOut:
        """Images of sample b under row `row_B[b]` of the edits."""
        # Sorted by row once, so that every site sees its classes as consecutive samples, and put back at the end.
        counts = torch.bincount(row_B, minlength=edits.rows).tolist()
        order_B = row_B.argsort(stable=True)
        back_B = order_B.argsort()
        z, noise, z_mix, crossover_B = latents
        batch = Latents(z[order_B], tuple(n[order_B] for n in noise), z_mix[order_B], crossover_B[order_B])
        out = self.source(batch, dataclasses.replace(edits, counts=tuple(counts)), truncation)
        return GenOut(out.image[back_B], tuple(f[back_B] for f in out.features), out.styles)
