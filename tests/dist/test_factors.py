"""Heads' gradients over ranks and microbatches are products made once, of what is small enough to send."""

from __future__ import annotations

import factors
import pytest
import ranks


@pytest.mark.parametrize("world", [2, 3])
def test_heads_gradients_reduced_as_factors_are_exact_and_fewer_numbers(world):
    ranks.run(world, factors.main, world)
