"""Perceptual path length from class to class, the style held fixed. P pairs, B batch, C classes, E class-vector width.

How far the image moves, perceptually, for a step on the straight line between two class vectors. Both ends of a step
share z and noise; ends of different styles would measure the styles (the released code does).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from hmgan import rng
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator

EPSILON = 1e-4
KEPT = (0.01, 0.99)
BATCH = 8  # Each sample has a class vector, hence whole convolution kernels, of its own.


@torch.no_grad()
def path_lengths(
    generator: TransferGenerator,
    distance: Callable[[Tensor, Tensor], Tensor],
    classes: int,
    *,
    end: bool,
    pairs: int,
    seed: int,
    truncation: float = 1.0,
) -> Tensor:
    """[P] float64, d(G(z, v(t)), G(z, v(t + epsilon))) / epsilon^2 of every pair (Karras et al. 2019, Eq. 2).

    v(t) is linear from one class's vector to another's. Pair i depends on (seed, i) and the number of classes alone.

    The generator is copied to float64: at this epsilon, rounding in float32 is a thousandth of the difference before
    any network enlarges it. Images are neither clamped nor quantised, which would hide small steps.

    Args:
        distance: two of [B, 3, H, W] float64 in about 0..255 -> [B], quadratic in small differences.
        end: t is 0, not uniform on [0, 1).
        pairs: of images.
    Raises: UserError with fewer than 2 classes or 1 pair.
    """
    if classes < 2:
        raise UserError(f"a path between classes needs 2 classes or more, got {classes}; leave ppl out of --metrics")
    if pairs < 1:
        raise UserError(f"a path length needs 1 pair of images or more, got {pairs}")
    device = next(generator.parameters()).device
    from_P, to_P, t_P = (x.to(device) for x in draws(classes, pairs, seed))
    if end:
        t_P = torch.zeros_like(t_P)
    generator = copy.deepcopy(generator).double().eval()
    vectors_CE = generator.trained["class_net"](torch.arange(classes, device=device)).double()
    lengths = []
    for first in range(0, pairs, BATCH):
        batch = slice(first, first + BATCH)
        row_B = torch.arange(len(t_P[batch]), device=device)
        drawn = generator.latents(rng.keys(seed, "paths/latents", first, len(row_B)))
        noise = tuple(n.double() for n in drawn.noise)
        latents = drawn._replace(z=drawn.z.double(), noise=noise, z_mix=drawn.z_mix.double())
        images = []
        for step in (0.0, EPSILON):
            v_BE = torch.lerp(vectors_CE[from_P[batch]], vectors_CE[to_P[batch]], (t_P[batch] + step)[:, None])
            images.append(generator.render(latents, generator.edits_of(v_BE), row_B, truncation).image * 127.5 + 127.5)
        lengths.append(distance(*images).double() / EPSILON**2)
    return torch.cat(lengths).cpu()


def draws(classes: int, pairs: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """For every pair a class, another class, and t: [P] int64, [P] int64 and [P] float64 in [0, 1).

    Ordered pairs of classes take turns, so that each is as frequent as any other, give or take one.
    """
    i_P = torch.arange(pairs)
    from_P = i_P % classes
    # The other class comes 1..classes-1 later, in a circle.
    to_P = (from_P + 1 + (i_P // classes) % (classes - 1)) % classes
    t_P1 = rng.uniform_rows(rng.keys(seed, "paths/t", 0, pairs), 1)
    return from_P, to_P, t_P1[:, 0].double()


def trimmed_mean(x_P: Tensor) -> float:
    """The mean of the values from the 1st to the 99th percentile, each rounded outwards to a value."""
    low = x_P.quantile(KEPT[0], interpolation="lower")
    high = x_P.quantile(KEPT[1], interpolation="higher")
    return float(x_P[(x_P >= low) & (x_P <= high)].mean())
