"""StyleGAN2's and 3's mapping network. B batch, Z latent, L label numbers, W style width."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from hmgan.layers.equalized import leaky_relu, unit_mean_square
from hmgan.layers.modulated import Linear


class Tracking(nn.Module):
    """A module with running means of what it computes: a moving average of weights takes them as they are."""

    tracked: ClassVar[tuple[str, ...]] = ()


def tracked_buffers(network: nn.Module) -> set[str]:
    """The names of a network's running means."""
    found = ((prefix, m.tracked) for prefix, m in network.named_modules() if isinstance(m, Tracking))
    own = {name for name, _ in network.named_buffers()}
    return {f"{prefix}.{name}".lstrip(".") for prefix, names in found for name in names} & own


class Mapping(Tracking):
    """z, and the embedding of a label where there is one, each of unit mean square -> w, and the mean w.

    Args:
        z_dim: Z; 0 for a label alone, as in a discriminator.
        label_dim: L, numbers of a class; 0 for none.
        w_dim: width of w and of every layer.
        layers: depth.
        lr_mult: of the layers' learning rate, relative to all others.
        beta: share of the mean w that a training pass keeps; none is kept where left out.
        together: z and the embedding, as wide as z, are normalised as one.

    Shapes: z [B, Z + L] -> w [B, W].
    """

    tracked = ("w_avg",)
    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        label_dim: int,
        w_dim: int,
        layers: int,
        lr_mult: float = 0.01,
        beta: float | None = None,
        together: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim, self.layers, self.beta, self.together = z_dim, layers, beta, together
        embedded = z_dim if together else w_dim
        self.embed = Linear(label_dim, embedded) if label_dim else None
        inputs = z_dim + (embedded if label_dim else 0)
        for i in range(layers):
            self.add_module(f"fc{i}", Linear(w_dim if i else inputs, w_dim, lr_mult=lr_mult))
        if beta is not None:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor) -> Tensor:
        parts = [z[:, : self.z_dim]] if self.z_dim else []
        parts += [self.embed(z[:, self.z_dim :])] if self.embed is not None else []
        parts = [torch.cat(parts, 1)] if self.together else parts
        h = torch.cat([unit_mean_square(part) for part in parts], 1)
        for i in range(self.layers):
            h = leaky_relu(self.get_submodule(f"fc{i}")(h)) * math.sqrt(2)
        if self.beta is not None and torch.is_grad_enabled() and self.get_submodule("fc0").weight.requires_grad:
            with torch.no_grad():
                self.w_avg.lerp_(h.mean(0).to(self.w_avg), 1 - self.beta)
        return h
