"""A backbone on its own in place of a transfer generator, for pretraining and fine-tuning in the same loop."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hmgan.generators.base import Generator
from hmgan.layers.backbone import Backbone
from hmgan.types import GenOut, Latents


class UnconditionalGenerator(Generator):
    """G(z): all of it trains, and labels are ignored."""

    trained: Any  # a backbone

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trained = backbone

    @property
    def backbone(self) -> Backbone:
        return self.trained

    def with_trained(self, trained: Any) -> UnconditionalGenerator:
        return type(self)(trained)

    def parts(self) -> dict[str, tuple[nn.Module, bool]]:
        return {"generator": (self.trained, True)}

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        return self.trained(latents, truncation=truncation)


class LabelledGenerator(UnconditionalGenerator):
    """G(z, c) of a backbone that has classes: all of it trains."""

    outside = "train.labels reads them before"

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        return super().forward(self.trained.labelled(latents, labels_B), labels_B, truncation)
