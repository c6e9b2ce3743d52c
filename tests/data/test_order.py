from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
import torch

from hmgan.data.order import Order, indices


def shown(world: int, batch: int, images: int, n: int = 12, seed: int = 3) -> list[int]:
    order = Order([n], seed=seed)
    steps = images // (world * batch)
    return [
        i
        for step in range(steps)
        for rank in range(world)
        for i in indices(order, step, batch_per_rank=batch, rank=rank, world=world)
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
    order = Order([12], seed=3)
    near = order[5]
    far = [order[12 * epoch] for epoch in (10**9, 10**12, 7)]
    assert order._permutation.cache_info().currsize == 2
    assert order[5] == near
    assert [Order([12], seed=3)[12 * epoch] for epoch in (10**9, 10**12, 7)] == far


def test_an_order_of_nothing_is_refused():
    with pytest.raises(ValueError, match="1 image or more, got 0"):
        Order([0], seed=1)


@pytest.mark.parametrize("sizes", [[12], [5, 5, 2], [1, 0, 11]])
def test_a_set_of_one_window_has_the_order_from_before_there_were_windows(sizes):
    """Committed results depend on it: randperm(n, generator(seed, epoch)), whatever the shards are."""
    for epoch in (0, 1, 7):
        key = int.from_bytes(hashlib.sha256(f"order/3/{epoch}".encode()).digest()[:8], "little") >> 1
        wanted = torch.randperm(12, generator=torch.Generator().manual_seed(key)).tolist()
        order = Order(sizes, seed=3)
        assert [order[c] for c in range(12 * epoch, 12 * epoch + 12)] == wanted


RAGGED = [7, 1, 30, 0, 12, 5, 5, 40, 2, 3, 9, 6]


@pytest.mark.parametrize("window", [1, 10, 33, 119, 120, 1000])
def test_every_image_is_shown_once_per_epoch_whatever_the_shards_and_windows(window):
    order = Order(RAGGED, seed=3, window=window)
    for epoch in (0, 1, 9):
        assert sorted(order[c] for c in range(120 * epoch, 120 * epoch + 120)) == list(range(120))


def test_a_window_shows_its_own_shards_and_no_others():
    order, first = Order(RAGGED, seed=3, window=33), 0
    bounds = np.cumsum([0, *RAGGED])
    for epoch in range(3):
        shards_of_epoch = []
        while first < 120 * (epoch + 1):
            end, shards = order.window(first)
            rows = sorted(order[c] for c in range(first, end))
            assert rows == [i for s in shards for i in range(bounds[s], bounds[s + 1])]
            assert order.window(end - 1) == (end, shards)
            shards_of_epoch += shards
            first = end
        assert first == 120 * (epoch + 1)
        assert sorted(shards_of_epoch) == [s for s, size in enumerate(RAGGED) if size]  # each is read once
    assert order.window(0)[1] != order.window(120)[1]


def test_windows_are_of_one_size():
    order, first, sizes = Order([10] * 1001, seed=1, window=1000), 0, []
    while first < 10_010:
        end, _ = order.window(first)
        sizes.append(end - first)
        first = end
    assert len(sizes) == 11
    assert max(sizes) - min(sizes) <= 10


@pytest.mark.parametrize("world", [2, 3, 4])
def test_windows_change_nothing_about_ranks(world):
    def all_ranks(world: int) -> list[int]:
        order = Order(RAGGED, seed=3, window=20)
        batch = 12 // world
        ranks = [(step, rank) for step in range(20) for rank in range(world)]
        return [i for step, rank in ranks for i in indices(order, step, batch_per_rank=batch, rank=rank, world=world)]

    assert all_ranks(world) == all_ranks(1)


def test_memory_does_not_grow_with_the_images():
    """100 million images: any position at once, in some bytes a shard and a window."""

    def peak(shards: int) -> int:
        sizes = np.full(shards, 1000)
        tracemalloc.start()
        order = Order(sizes, seed=3)
        n = 1000 * shards
        seen = [order[c] for c in (0, n // 2, n - 1, 5 * n + 17)]
        assert max(seen) < n
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(100), peak(100_000)
    assert large - small < 100 * 100_000  # bytes a shard, and nothing for an image
    assert large < 16 * 2**20
