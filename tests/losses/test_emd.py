"""The nearest-neighbour stand-in for the earth mover's distance against loops over pairs."""

from __future__ import annotations

import math

import torch

from hmgan.losses.emd import earth_mover


def rows(seed, count, width=3):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def squared(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def naive(z, drawn):
    there = sum(min(squared(a, r) for r in drawn) for a in z) / len(z)
    back = sum(min(squared(a, r) for a in z) for r in drawn) / len(drawn)
    return there + back


def test_it_is_the_mean_over_loops_of_both_ways_to_the_nearest():
    for count, draws in ((1, 1), (2, 20), (5, 50), (4, 3)):
        z, drawn = rows(count, count), rows(100 + count, draws)
        assert math.isclose(float(earth_mover(z, drawn)), naive(z.tolist(), drawn.tolist()), rel_tol=1e-12)


def test_every_z_near_a_draw_is_not_enough_every_draw_must_have_a_z_too():
    drawn = torch.tensor([[0.0], [10.0]])
    assert float(earth_mover(torch.tensor([[0.0], [0.0]]), drawn)) == 50
    assert float(earth_mover(torch.tensor([[0.0], [10.0]]), drawn)) == 0


def test_its_gradient_pulls_each_z_to_the_draws_it_is_nearest_to():
    z = torch.tensor([[1.0], [8.0]], requires_grad=True)
    earth_mover(z, torch.tensor([[0.0], [10.0], [11.0]])).backward()
    # To its own nearest, half of 2 (z - r); from the draws, a third of 2 (z - r) each.
    torch.testing.assert_close(z.grad, torch.tensor([[1 + 2 / 3], [-2 + 2 / 3 * (-2 - 3)]]))
