from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
import pytest

from hmgan.data.interleaved import Interleaved, spread
from hmgan.data.order import Order

SIZES = [[5, 3, 4], [2, 2], [7, 1, 9, 3]]  # images of each shard, by part
COUNTS = [3, 1, 2]


def parts(window: int = 5) -> list[Order]:
    """Of a set of nine shards, three parts: their images are numbered one part after the other."""
    made, first, before = [], 0, 0
    for number, sizes in enumerate(SIZES):
        padded = np.zeros(9, np.int64)
        padded[before : before + len(sizes)] = sizes
        images = range(first, first + sum(sizes))
        made.append(Order(padded, seed=4, window=window, images=images, name=f"part/{number}/"))
        first, before = first + sum(sizes), before + len(sizes)
    return made


def interleaved(seed: int = 4, window: int = 5) -> Interleaved:
    return Interleaved(parts(window), COUNTS, draw=spread(COUNTS, seed=seed, name="parts/"))


def part_of(image: int) -> int:
    return int(np.searchsorted(np.cumsum([sum(sizes) for sizes in SIZES]), image, side="right"))


def test_shares_are_exact_in_every_round_and_near_within_it():
    order, seen = interleaved(), Counter()
    for c in range(600):
        seen[part_of(order[c])] += 1
        for part, count in enumerate(COUNTS):
            assert abs(seen[part] - (c + 1) * count / 6) < 2
        if (c + 1) % 6 == 0:
            assert [seen[part] for part in range(3)] == [(c + 1) // 6 * count for count in COUNTS]


def test_a_part_goes_through_its_own_order_so_that_no_image_comes_twice_before_all_came_once():
    order = interleaved()
    shown = [order[c] for c in range(900)]
    for number, part in enumerate(parts()):
        own = [image for image in shown if part_of(image) == number]
        assert own == [part[c] for c in range(len(own))]
        n = sum(SIZES[number])
        for first in range(0, len(own) - n, n):
            assert len(set(own[first : first + n])) == n


def test_rounds_differ_and_follow_from_the_seed():
    order = interleaved()
    rounds = [tuple(part_of(order[6 * r + k]) for k in range(6)) for r in range(40)]
    assert len(set(rounds)) > 5
    assert [interleaved()[c] for c in range(240)] == [order[c] for c in range(240)]
    other = interleaved(seed=5)
    assert [tuple(part_of(other[6 * r + k]) for k in range(6)) for r in range(40)] != rounds


def test_a_far_position_needs_no_walk():
    order = interleaved()
    far = [order[6 * 10**12 + k] for k in range(6)]
    assert [interleaved()[6 * 10**12 + k] for k in range(6)] == far
    assert sorted(map(part_of, far)) == [0, 0, 0, 1, 2, 2]


@pytest.mark.parametrize("window", [1, 5, 100])
def test_up_to_the_end_of_a_window_its_shards_are_enough(window):
    order, c = interleaved(window=window), 0
    bounds = np.cumsum([size for sizes in SIZES for size in sizes])
    while c < 200:
        end, shards = order.window(c)
        assert end > c
        assert shards == sorted(shards)
        assert {int(np.searchsorted(bounds, order[k], side="right")) for k in range(c, end)} <= set(shards)
        assert interleaved(window=window).window(c) == (end, shards)  # whatever was asked for before
        c = end


def test_memory_does_not_grow_with_the_images():
    """Two parts of 50 million images each: any position at once, in some bytes a shard and a window."""

    def peak(shards: int) -> int:
        sizes = np.full(shards, 1000)
        tracemalloc.start()
        halves = [np.where(np.arange(shards) % 2 == part, sizes, 0) for part in (0, 1)]
        orders = [Order(half, seed=1, name=f"part/{part}/") for part, half in enumerate(halves)]
        order = Interleaved(orders, [3, 1], draw=spread([3, 1], seed=1, name="parts/"))
        for c in (0, 500 * shards, 10**12):
            assert order[c] < 500 * shards
            assert len(order.window(c)[1]) < 200
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    small, large = peak(200), peak(100_000)
    assert large - small < 200 * 100_000  # bytes a shard, and nothing for an image


def test_a_part_without_a_share_is_refused():
    with pytest.raises(ValueError, match=r"each of 3 parts needs a count of 1 or more, got \[1, 0, 1\]"):
        Interleaved(parts(), [1, 0, 1], draw=spread([1, 0, 1], seed=1, name=""))
