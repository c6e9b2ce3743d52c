"""What every discriminator is: a trunk, and a head on its embedding."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from hmgan.discriminators.heads import Head


class Discriminator(nn.Module):
    """images [B, 3, H, W], labels [B] -> DiscOut. Its last layer, `head`, is a component of its own."""

    head: Head
    mixes_batch = False  # whether a logit depends on all samples of a pass, so that no pass may be split
    judges_patches = False  # whether `maps(images, blocks)` gives what its first blocks make of images

    def load_source(self, state: Mapping[str, Tensor]) -> None:
        """Takes a pretrained state, whose head is one linear layer; the head makes its own of it."""
        row = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
        head = {f"head.{k}": v for k, v in self.head.from_source(row).items()}
        self.load_state_dict({**state, **head})

    def of_class(self, label: int) -> dict[str, Tensor]:
        """The state of a discriminator of one logit that judges as this one judges a class; `load_source` takes it."""
        rest = {k: v for k, v in self.state_dict().items() if not k.startswith("head.")}
        return {**rest, **{f"head.{k}": v for k, v in self.head.of_class(label).items()}}
