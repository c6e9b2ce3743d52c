"""What every generator is to the trainer, the moving average and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hmgan import ahead
from hmgan.layers.backbone import Backbone
from hmgan.types import GenOut, Latents


class Generator(nn.Module, ABC):
    """G(z, c). Latents, labels [B] and a truncation -> images and every block's output."""

    trained: nn.Module  # all of it that trains
    outside = ""  # what of it reads its weights outside its passes
    note = ""  # what of it is worth a line when a run starts

    @property
    @abstractmethod
    def backbone(self) -> Backbone:
        """The network that draws."""

    @abstractmethod
    def with_trained(self, trained: nn.Module) -> Generator:
        """The same generator with other trained parts, such as their moving average."""

    @abstractmethod
    def parts(self) -> dict[str, tuple[nn.Module, bool]]:
        """Its networks by name, and whether a moving average of each is kept."""

    @abstractmethod
    def forward(self, latents: Latents, labels_B: Tensor, truncation: float = 1.0) -> GenOut: ...

    @property
    def resolution(self) -> int:
        """In pixels."""
        return self.backbone.resolution

    def given(self) -> frozenset[str]:
        """Names, within `trained`, of parameters that come with the source and stay as they are."""
        return frozenset()

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        """One image's randomness per key; with probability `mixing` it has a second style."""
        return ahead.drawn(self.backbone.latents, keys, mixing)

    def penalties(self) -> Mapping[str, Tensor]:
        """What G minimises besides the adversarial loss, weighted, by name; usually nothing."""
        return {}
