"""Ways through classes and latents. N images, Z latent, D dimensions, E class-vector width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.types import Latents


@dataclass(frozen=True)
class Walk:
    """From station to station: a single seed or class stays, of several each is a station."""

    seeds: tuple[int, ...]
    classes: tuple[str | int, ...]
    steps: int
    spherical: bool = False

    @classmethod
    def between(
        cls, seeds: int | Sequence[int], classes: str | int | Sequence[str | int], steps: int, spherical: bool
    ) -> Walk:
        """Raises ValueError for no way to go, other numbers of seeds than of classes, or fewer than 1 step."""
        seeds = (seeds,) if isinstance(seeds, int) else tuple(seeds)
        names = (classes,) if isinstance(classes, str | int) else tuple(classes)
        stations = max(len(seeds), len(names))
        if stations < 2 or min(len(seeds), len(names)) not in (1, stations):
            got = f"{len(seeds)} seeds and {len(names)} classes"
            raise UserError(f"a walk has 2 stations or more: seeds, classes, or as many of both; got {got}")
        if steps < 1:
            raise UserError(f"steps counts images from station to station and must be at least 1, got {steps}")
        return cls(seeds, names, steps, spherical)

    def places(self) -> Iterator[tuple[int, float]]:
        """Of each image, the station before it and the share of the way to the next."""
        legs = max(len(self.seeds), len(self.classes)) - 1
        yield from ((leg, step / self.steps) for leg in range(legs) for step in range(self.steps))
        yield legs - 1, 1.0

    def between_two(self, a: Tensor, b: Tensor, share: float) -> Tensor:
        """Along a line or on the sphere; shapes alike."""
        return slerp(a, b, share) if self.spherical else torch.lerp(a, b, share)


def blended(a: Latents, b: Latents, share: float, spherical: bool) -> Latents:
    """Between two latents. Noise always goes on the sphere: along a line it would fade halfway."""
    z = slerp(a.z, b.z, share) if spherical else torch.lerp(a.z, b.z, share)
    noise = tuple(slerp(n, m, share) for n, m in zip(a.noise, b.noise, strict=True))
    return a._replace(z=z, z_mix=z, noise=noise)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From a to b, [N, ...] each, on the sphere of each sample; lengths go along a line."""
    a_ND, b_ND = a.flatten(1), b.flatten(1)
    long_a, long_b = (x.norm(dim=1, keepdim=True).clamp(min=1e-12) for x in (a_ND, b_ND))
    angle = ((a_ND / long_a) * (b_ND / long_b)).sum(1, keepdim=True).clamp(-1, 1).acos()
    if bool((angle.sin() < 1e-6).any()):  # as good as a line, or no way that is the shortest
        return torch.lerp(a, b, share)
    turned = ((1 - share) * angle).sin() * a_ND / long_a + (share * angle).sin() * b_ND / long_b
    return (turned / angle.sin() * torch.lerp(long_a, long_b, share)).view_as(a)
