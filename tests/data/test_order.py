from __future__ import annotations

import pytest

from hmgan.data.order import Order


def shown(world: int, batch: int, images: int, n: int = 12, seed: int = 3) -> list[int]:
    order = Order(n, seed=seed)
    steps = images // (world * batch)
    return [
        i
        for step in range(steps)
        for rank in range(world)
        for i in order.indices(step, batch_per_rank=batch, rank=rank, world=world)
    ]


@pytest.mark.parametrize(("world", "batch"), [(1, 4), (2, 3), (3, 2), (4, 3), (1, 5), (4, 1)])
def test_every_image_is_shown_once_per_epoch(world, batch):
    seen = shown(world, batch, 60)
    for epoch in range(5):
        assert sorted(seen[12 * epoch : 12 * epoch + 12]) == list(range(12))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_order_is_the_same_for_every_number_of_ranks(world):
    assert shown(world, 12 // world, 48) == shown(1, 12, 48)


def test_epochs_and_seeds_differ():
    one = shown(1, 12, 36)
    assert len({tuple(one[12 * e : 12 * e + 12]) for e in range(3)}) == 3
    assert shown(1, 12, 36, seed=4) != one
    # seed + epoch as the key would make the second epoch of seed 3 the first of seed 4
    assert shown(1, 12, 12, seed=4) != one[12:24]


def test_a_far_position_needs_no_walk_and_two_epochs_at_most_are_kept():
    order = Order(12, seed=3)
    near = order[5]
    far = [order[12 * epoch] for epoch in (10**9, 10**12, 7)]
    assert len(order._permutations) == 2
    assert order[5] == near
    assert [Order(12, seed=3)[12 * epoch] for epoch in (10**9, 10**12, 7)] == far


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="1 image or more, got 0"):
        Order(0, seed=1)
