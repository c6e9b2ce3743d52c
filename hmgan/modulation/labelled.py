"""A class-conditional backbone on its own, in the place of a transfer generator: pretraining with labels."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.types import GenOut, Latents


class LabelledGenerator(UnconditionalGenerator):
    """G(z, c) of a backbone that has classes: all of it trains."""

    def with_trained(self, trained: Any) -> LabelledGenerator:
        """The same generator with other weights, such as their moving average."""
        return LabelledGenerator(trained)

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        return self.trained(self.trained.labelled(latents, labels_B), truncation=truncation)
