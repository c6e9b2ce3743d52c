"""A backbone on its own, in the place of a transfer generator: pretraining and fine-tuning are that loop, no class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hmgan.layers.backbone import Backbone
from hmgan.types import GenOut, Latents


class UnconditionalGenerator(nn.Module):
    """G(z): all of it trains, and labels are ignored."""

    trained: Any  # a Backbone and an nn.Module
    outside = ""  # what of it reads its weights outside its passes

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.trained = backbone

    @property
    def backbone(self) -> Any:
        return self.trained

    def with_trained(self, trained: Any) -> UnconditionalGenerator:
        """The same generator with other weights, such as their moving average."""
        return UnconditionalGenerator(trained)

    def parts(self) -> dict[str, tuple[nn.Module, bool]]:
        """Its networks by name, and whether a moving average of each is kept."""
        return {"generator": (self.trained, True)}

    @property
    def resolution(self) -> int:
        return self.trained.resolution

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        return self.trained.latents(keys, mixing)

    def penalties(self) -> Mapping[str, Tensor]:
        """Nothing beside the adversarial loss."""
        return {}

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        return self.trained(latents, truncation=truncation)


class LabelledGenerator(UnconditionalGenerator):
    """G(z, c) of a backbone that has classes: all of it trains."""

    outside = "train.labels reads them before"

    def with_trained(self, trained: Any) -> LabelledGenerator:
        """The same generator with other weights, such as their moving average."""
        return LabelledGenerator(trained)

    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut:
        return self.trained(self.trained.labelled(latents, labels_B), truncation=truncation)
