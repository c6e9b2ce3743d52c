"""The conditional generator: backbone, class net, modulation. B batch, R rows (distinct classes), E class vector."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, overload

import torch
from torch import Tensor, nn

from hmgan.generators.base import Generator
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.layers.float32 import unrounded
from hmgan.modulation.base import Modulation
from hmgan.modulation.grouping import Grouping, sorting
from hmgan.modulation.step import current
from hmgan.types import GenOut, Latents

Drawer = Callable[[Latents, Edits, float], GenOut]  # latents, edits and truncation, as a source is called


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

    def given(self) -> frozenset[str]:
        tuned = self.source.named_parameters() if "source" in self.trained else ()
        return frozenset(f"source.{name}" for name, parameter in tuned if not parameter.requires_grad)

    def whole_state(self) -> dict[str, Tensor]:
        """Every tensor once: not again among the trained parts those of a source that trains."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("trained.source.")}

    def edits(self, labels_R: Tensor) -> Edits:
        """One row of edits per label: computed once per distinct class, and valid while the heads do not change."""
        v_RE = self.class_vectors(labels_R)
        with current().factors.heads_of(v_RE, labels_R):
            return self.edits_of(v_RE)

    def class_vectors(self, labels_R: Tensor) -> Tensor:
        """C(i; Psi): labels [R] -> v [R, E]."""
        v_RE: Tensor = self.trained["class_net"](labels_R)
        return v_RE

    def edits_of(self, v_RE: Tensor) -> Edits:
        """One row of edits per class vector, for interpolation in the class space."""
        return self.modulation(v_RE)

    def penalties(self) -> Mapping[str, Tensor]:
        return self.modulation.penalties()

    def forward(
        self, latents: Latents, labels_B: Tensor, truncation: float = 1.0, source: Drawer | None = None
    ) -> GenOut:
        """Images of samples and their classes.

        Args:
            source: what draws them, where it is not the source as it is.
        """
        step = current()
        grouping = step.grouping_of(labels_B)
        # Reading the heads once is all the tables cost: a bfloat16 copy would cost more, and round gamma and beta.
        with unrounded(labels_B):
            edits = step.shared_edits(self, grouping, lambda: self.edits(grouping.classes_R))
        return self._render(latents, edits, grouping, truncation, source or self.source)

    def render(self, latents: Latents, edits: Edits, row_B: Tensor, truncation: float = 1.0) -> GenOut:
        """Images of sample b under row `row_B[b]` of the edits."""
        rows_B = row_B.cpu()
        counts = tuple(torch.bincount(rows_B, minlength=edits.rows).tolist())
        grouping = Grouping(row_B, counts, *sorting(rows_B, row_B.device))
        return self._render(latents, edits, grouping, truncation, self.source)

    def _render(self, latents: Latents, edits: Edits, grouping: Grouping, truncation: float, source: Drawer) -> GenOut:
        # Sorted by row once, so that every site sees its classes as consecutive samples, and put back at the end.
        order_B, back_B = grouping.order_B, grouping.back_B
        z, noise, z_mix, crossover_B, mixes = latents
        batch = Latents(z[order_B], tuple(n[order_B] for n in noise), z_mix[order_B], crossover_B[order_B], mixes)
        out = source(batch, dataclasses.replace(edits, counts=grouping.counts), truncation)
        return GenOut(out.image[back_B], PutBack(out.features, back_B), out.styles)


class PutBack(Sequence[Tensor]):
    """Features in the order of the batch, put there where they are read: seven copies, for self-alignment alone."""

    def __init__(self, sorted_BCHW: Sequence[Tensor], back_B: Tensor) -> None:
        self._sorted, self._back_B = sorted_BCHW, back_B

    def __len__(self) -> int:
        return len(self._sorted)

    @overload
    def __getitem__(self, block: int) -> Tensor: ...
    @overload
    def __getitem__(self, block: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, block: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(block, slice):
            return PutBack(self._sorted[block], self._back_B)
        return self._sorted[block][self._back_B]
