"""What every discriminator is: a trunk, and a head on its embedding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hmgan.discriminators.heads import Head, State
from hmgan.layers.float32 import unrounded
from hmgan.types import DiscOut


class Discriminator(nn.Module, ABC):
    """Images and labels -> DiscOut. Its last layer, `head`, is a component of its own.

    Constructed with (classes, make_head): their number, 1 without labels, and (embedding width, classes) -> the head.
    """

    head: Head
    mixes_batch = False  # whether a logit depends on all samples of a pass, so that no pass may be split
    judges_patches = False  # whether `maps(images, blocks)` gives what its first blocks make of images
    cpu_layout = torch.contiguous_format  # of its maps on a CPU: the faster one by scripts/bench_layout.py

    @abstractmethod
    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        """[B, 3, H, W] in [-1, 1], labels [B] -> [B, F] in float32."""

    def forward(self, images: Tensor, labels: Tensor, batches: int = 1) -> DiscOut:
        """[B, 3, H, W] in [-1, 1], labels [B] -> what the head makes of the embeddings.

        One pass may hold several `batches`, one after the other: each sample sees its own batch at most.
        """
        return self.judged(self.embeddings(images, labels, batches), labels)

    def judged(self, embedding_BF: Tensor, labels: Tensor) -> DiscOut:
        """What the head makes of embeddings."""
        with unrounded(embedding_BF):
            return self.head(embedding_BF, labels)

    def parts(self) -> Mapping[str, nn.Module]:
        """What of it can be frozen, by name."""
        return {name: part for name, part in self.named_modules() if any(True for _ in part.parameters())}

    def load_source(self, state: Mapping[str, Tensor]) -> None:
        """Takes a pretrained state, whose head is one linear layer; the head makes its own of it."""
        row = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
        self.load_state_dict({**state, **_named(self.head.from_source(row))})

    def of_class(self, label: int) -> State:
        """The state of a discriminator of one logit that judges as this one judges a class; `load_source` takes it."""
        rest = {k: v for k, v in self.state_dict().items() if not k.startswith("head.")}
        return {**rest, **_named(self.head.of_class(label))}


def _named(head: State) -> State:
    return {f"head.{k}": v for k, v in head.items()}
