"""Stratified batches: exact shares in every batch, every image once an epoch, groups of one class, any ranks."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import tiny
import torch

from hmgan.config.settings import Data
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.data.mixture import Mixture
from hmgan.data.named import open_images
from hmgan.data.order import Order
from hmgan.data.shards import ShardSet
from hmgan.data.stratified import stratified
from hmgan.errors import UserError
from hmgan.train.prepare import prepare


def classes_of(counts, window=1 << 16):
    """An order of each class, whose images are numbered one class after the other, in one shard each."""
    orders, first = [], 0
    for k, count in enumerate(counts):
        sizes = [count if s == k else 0 for s in range(len(counts))]
        images = range(first, first + count)
        orders.append(Order(sizes, seed=3, window=window, images=images, name=f"class/{k}/"))
        first += count
    return orders


def order_of(counts, batch, group=1, equal=False, seed=0, window=1 << 16):
    return stratified(classes_of(counts, window), batch=batch, group=group, equal=equal, seed=seed, name="")


def labels(counts, order, positions):
    bounds = np.cumsum(counts)
    return [int(np.searchsorted(bounds, order[c], side="right")) for c in positions]


SETS = [
    ((12, 12, 12), 4),  # three whole epochs of batches
    ((12, 12, 12), 8),  # batches lie across epochs
    ((7, 20, 3, 11), 8),  # unequal classes
    ((7, 20, 3, 11), 13),
    ((1, 1, 50), 5),  # a class of one image
    ((2, 3), 16),  # several epochs in a batch
    (tuple(range(1, 40)), 16),  # more classes than images in a batch
]


@pytest.mark.parametrize(("counts", "batch"), SETS)
def test_every_batch_has_floor_or_ceil_of_each_classs_share_and_an_epoch_every_image_once(counts, batch):
    order, n = order_of(counts, batch), sum(counts)
    for step in range(5 * n // batch + 5):
        found = Counter(labels(counts, order, range(step * batch, (step + 1) * batch)))
        for k, count in enumerate(counts):
            share = batch * count
            assert share // n <= found[k] <= -(-share // n)
    for epoch in range(4):
        assert sorted(order[c] for c in range(epoch * n, (epoch + 1) * n)) == list(range(n))


@pytest.mark.parametrize(
    ("counts", "batch", "group"), [((8, 16, 4), 8, 4), ((12, 12, 12, 12), 8, 4), ((6, 2, 4), 4, 2)]
)
def test_a_batch_is_whole_groups_of_one_class_and_an_epoch_still_has_every_image_once(counts, batch, group):
    order, n = order_of(counts, batch, group), sum(counts)
    for first in range(0, 6 * n, group):
        assert len(set(labels(counts, order, range(first, first + group)))) == 1
    for step in range(6 * n // batch):
        found = Counter(labels(counts, order, range(step * batch, (step + 1) * batch, group)))
        for k, count in enumerate(counts):
            share = batch // group * count
            assert share // n <= found[k] <= -(-share // n)
    for epoch in range(4):
        assert sorted(order[c] for c in range(epoch * n, (epoch + 1) * n)) == list(range(n))


def test_where_groups_do_not_divide_a_class_none_of_its_images_comes_again_before_all_were_shown():
    counts = (5, 9, 3)
    order, n = order_of(counts, 8, 4), sum(counts)
    shown = [order[c] for c in range(4 * n)]
    assert Counter(shown) == dict.fromkeys(range(n), 4)  # a round of four epochs
    for k, own in enumerate(classes_of(counts)):
        of_class = [image for image in shown if sum(counts[:k]) <= image < sum(counts[: k + 1])]
        assert of_class == [own[c] for c in range(len(of_class))]


@pytest.mark.parametrize(("group", "batch"), [(1, 8), (4, 8), (4, 16)])
def test_with_equal_shares_small_classes_come_as_often_as_large_ones(group, batch):
    counts = (4, 40, 9, 13, 6)
    order = order_of(counts, batch, group, equal=True)
    for step in range(60):
        found = Counter(labels(counts, order, range(step * batch, (step + 1) * batch, group)))
        assert all(batch // group // 5 <= found[k] <= -(-batch // group // 5) for k in range(5))
    assert set(Counter(labels(counts, order, range(0, 40 * batch * 5, group))).values()) == {40 * batch // group}


def test_partners_in_a_batch_change_and_no_class_waits_for_the_end_of_an_epoch():
    counts = (40,) * 10
    order = order_of(counts, 8, 4)
    pairs = [tuple(sorted(labels(counts, order, (8 * step, 8 * step + 4)))) for step in range(50)]
    assert len(set(pairs)) > 20
    assert len({k for pair in pairs[:25] for k in pair}) == 10


def test_it_follows_from_the_seed_and_a_far_position_needs_no_walk():
    shown = [order_of((7, 20, 3), 8)[c] for c in range(90)]
    assert [order_of((7, 20, 3), 8)[c] for c in range(90)] == shown
    assert [order_of((7, 20, 3), 8, seed=1)[c] for c in range(90)] != shown
    far = 30 * 10**9
    assert sorted(order_of((7, 20, 3), 8)[far + c] for c in range(30)) == list(range(30))


@pytest.mark.parametrize(("group", "window"), [(1, 1), (1, 6), (4, 1), (4, 100)])
def test_up_to_the_end_of_a_window_its_shards_are_enough(group, window):
    counts = (8, 20, 4, 12)
    order, c = order_of(counts, 8, group, window=window), 0
    while c < 150:
        end, shards = order.window(c)
        assert end > c
        assert {labels(counts, order, [at])[0] for at in range(c, end)} <= set(shards)
        c = max(c + 1, end - 1)


@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_ranks_shares_join_to_the_one_rank_batch_from_any_step_on(shards, world, group, workers):
    data = open_images(Data(sources=[str(shards)]), group=group)

    def shown(world, rank, start, workers):
        reading = Reading(batch_per_rank=8 // world, rank=rank, world=world, seed=5, start_step=start, workers=workers)
        return islice(batches(data, reading), 6 - start)

    whole = [batch.images for batch in shown(1, 0, 0, 0)]
    parts = zip(*(shown(world, rank, 2, workers if rank == 0 else 0) for rank in range(world)), strict=True)
    for wanted, step in zip(whole[2:], parts, strict=True):
        assert torch.equal(torch.cat([batch.images for batch in step]), wanted)


def test_without_labels_the_batches_are_the_same_images(shards):
    data = Mixture([ShardSet(shards)], group=4)
    order, bare = (each.order(seed=1, batch=8) for each in (data, data.unlabelled()))
    assert [order[c] for c in range(80)] == [bare[c] for c in range(80)]
    assert set(data.unlabelled().labels.tolist()) == {0}


def test_a_stratified_training_sees_its_groups_in_every_microbatch(shards, source, tmp_path):
    settings = ("loader.stratified=true", "loader.group=2", "train.batch=8", "train.accumulate=2")
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *settings), tmp_path)
    for part in trainer.microbatches(next(trainer.batches())):
        assert torch.equal(part.labels[0::2], part.labels[1::2])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (("loader.group=4",), "loader: group is of stratified batches, got 4; add stratified = true, or leave it out"),
        (
            ("loader.stratified=true", "data.weights=[1]"),
            "loader.stratified shows all of data as one set, got data.weights; leave one out",
        ),
        (
            ("loader.stratified=true", "loader.group=4", "train.batch=8", "train.accumulate=4"),
            "loader.group 4 does not divide the 2 images that pass through the networks at once "
            "(train.batch over ranks and train.accumulate); change one",
        ),
        (
            ("loader.stratified=true", "data.reader=webdataset"),
            'loader.stratified needs an index, and data.reader "webdataset" has none; leave one out',
        ),
    ],
)
def test_what_does_not_fit_is_one_line(settings, text, shards, source):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *settings))
    assert str(caught.value).endswith(text)


def test_a_batch_of_broken_groups_is_refused():
    with pytest.raises(UserError, match=r"^loader\.group 4 does not divide train\.batch 6; change one$"):
        order_of((8, 8), 6, 4)
