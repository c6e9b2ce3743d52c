"""Several sets as one: which images are shown how often, and in what order."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from tiny_pictures import pixels

from hmgan.data import loader, shards
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.data.mixture import Mixture
from hmgan.data.mixture import shares as ratio
from hmgan.data.order import Order
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError


@pytest.fixture
def packed(folder, tmp_path):
    def make(name: str, shard_samples: int = 4, size: int = 8, **counts: int) -> ShardSet:
        return ShardSet(pack(folder(name, size, **counts), tmp_path / f"{name}-out", shard_samples=shard_samples))

    return make


@pytest.fixture
def pair(packed) -> list[ShardSet]:
    """20 images, 16 of them cats, and 6, their classes in another order."""
    few = packed("few", 2, cat=2, dog=4)
    return [packed("many", cat=16, dog=4), ShardSet(few.index, classes=["dog", "cat"])]


def shown(data, images: int, *, workers: int = 0, world: int = 1, start: int = 0, batch: int = 2):
    """Contents and labels in the order of all ranks."""
    reading = partial(Reading, batch_per_rank=batch, world=world, seed=1, start_step=start, workers=workers)
    ranks = [
        islice(
            batches(data, reading(rank=rank)),
            images // batch // world,
        )
        for rank in range(world)
    ]
    return [
        (image.numpy().tobytes(), int(label))
        for steps in zip(*ranks, strict=True)
        for step in steps
        for image, label in zip(*step, strict=True)
    ]


def test_sets_without_weights_are_one_set(pair):
    data = Mixture(pair)
    assert (len(data), data.classes, data.counts) == (26, ("cat", "dog"), (18, 8))
    assert data.labels.tolist() == [data[i][1] for i in range(26)]
    sizes = [*pair[0].shard_sizes, *pair[1].shard_sizes]
    order, wanted = data.order(seed=1), Order(sizes, seed=1)
    assert [order[c] for c in range(60)] == [wanted[c] for c in range(60)]
    assert sorted(order[c] for c in range(26)) == list(range(26))


def test_images_of_all_sets_come_with_the_label_that_their_class_has(pair):
    data = Mixture(pair)
    for i in range(20):
        assert torch.equal(data[i][0], pair[0][i][0])
    for i in range(6):
        image, label = pair[1][i]
        assert torch.equal(data[20 + i][0], image)
        assert data.classes[data[20 + i][1]] == pair[1].classes[label]
    assert data.place(21)[0] == f"{pair[1].index.folder}/{pair[1].place(1)[0]}"
    assert data.shard_of(21) == len(pair[0].index.shards) + pair[1].shard_of(1)
    for outside in (-1, 26):
        with pytest.raises(IndexError):
            data[outside]


@pytest.mark.parametrize("weights", [[3, 1], [0.75, 0.25]])
def test_weights_are_shares_and_each_set_goes_through_its_images_again_and_again(pair, weights):
    order = Mixture(pair, weights=weights).order(seed=1)
    images = [order[c] for c in range(160)]  # 120 of the first set, which are 6 epochs of it; 40 of the second
    seen = Counter(images)
    assert [seen[i] for i in range(20)] == [6] * 20
    assert {seen[i] for i in range(20, 26)} == {6, 7}
    for first in range(0, 160, 4):
        assert sum(i >= 20 for i in images[first : first + 4]) == 1


@pytest.mark.parametrize("weights", [[], [1, 2]])
def test_balanced_classes_take_turns_and_each_goes_through_its_images(pair, weights):
    data = Mixture(pair, weights=weights, balance=True)
    order, labels = data.order(seed=1), data.labels
    images = [order[c] for c in range(240)]
    assert Counter(int(labels[i]) for i in images) == {0: 120, 1: 120}
    seen = Counter(images)
    if weights:  # of 80 images of the first set 40 are of its 4 dogs; of 160 of the second, 80 of its 2 cats
        assert [seen[i] for i in range(20) if labels[i] == 1] == [10] * 4
        assert [seen[i] for i in range(20, 26) if labels[i] == 0] == [40] * 2
    else:
        assert {seen[i] for i in range(26) if labels[i] == 1} == {15}
        assert {seen[i] for i in range(26) if labels[i] == 0} == {6, 7}
    both = [{int(labels[i]) for i in images[c : c + 2]} for c in range(0, 240, 2)]
    assert both == [{0, 1}] * 120 or weights
    first = [int(labels[images[c]]) for c in range(0, 240, 2)]
    assert 30 < sum(first) < 90  # neither class is always the first: ranks would each see one of them only


def test_classes_that_are_balanced_are_mixed_anew_each_time(packed):
    data = Mixture([packed("even", cat=8, dog=8)], balance=True)
    order = data.order(seed=1)
    pairs = {frozenset((order[c], order[c + 1])) for c in range(0, 320, 2)}
    assert len(pairs) > 32  # of 64; as many as 8 if both classes had one permutation


def test_classes_go_through_the_shards_together_though_some_lack_in_some():
    """So that one window of shards serves them all. Ten classes, each in about half of 100 shards."""
    sizes_CS = np.random.default_rng(0).integers(0, 2, (10, 100))
    orders = [Order(sizes, seed=1, window=5, name=f"class/{c}/") for c, sizes in enumerate(sizes_CS)]
    assert len(set().union(*(order.window(0)[1] for order in orders))) < 30  # apart, they would need 37


def test_what_is_balanced_stays_so_without_labels(pair):
    data = Mixture(pair, balance=True)
    bare = data.unlabelled()
    assert (bare.classes, bare.counts, set(bare.labels.tolist()), bare[0][1]) == (("all",), (26,), {0}, 0)
    ordered, wanted = bare.order(seed=1), data.order(seed=1)
    assert [ordered[c] for c in range(80)] == [wanted[c] for c in range(80)]
    assert len({data.digest, bare.digest, Mixture(pair).unlabelled().digest}) == 2


@pytest.mark.parametrize("settings", [{}, {"weights": [3, 1]}, {"weights": [1, 1], "balance": True}])
def test_the_order_is_one_for_all_ranks_and_workers_and_resumes_where_it_was(pair, settings, monkeypatch):
    monkeypatch.setattr(loader, "WINDOW", 7)
    data = Mixture(pair, **settings)
    whole = shown(data, 72)
    order, known = data.order(seed=1, window=7), [data[i] for i in range(26)]
    assert whole == [(known[order[c]][0].numpy().tobytes(), known[order[c]][1]) for c in range(72)]
    for world in (2, 3, 4):
        assert shown(data, 72, world=world, batch=12 // world) == whole
    assert shown(data, 72, workers=2) == whole
    assert shown(data, 40, start=9, workers=1) == whole[18:58]


def test_sets_of_other_sizes_or_classes_are_refused(packed, pair):
    with pytest.raises(UserError, match=r"images that are mixed must be of one size, got 8 px in .* and 4 px in .*"):
        Mixture([pair[0], packed("small", size=4, cat=2)])
    with pytest.raises(UserError, match=r"must agree, got 'cow' in .*cows-out beside cat, dog; name all"):
        Mixture([pair[0], packed("cows", cat=2, cow=2)])
    cows = ShardSet(packed("more", cat=2, cow=2).index, classes=["cow"])
    assert Mixture([pair[0], cows], classes=["cat", "cow", "dog"]).counts == (16, 2, 4)


def test_weights_are_taken_as_written_and_odd_ones_are_refused():
    assert ratio([0.7, 0.3]) == [7, 3]
    assert ratio([2, 4.0]) == [1, 2]
    assert ratio([1e-3, 1]) == [1, 1000]
    with pytest.raises(UserError, match=r"weights must be more than 0, got 1, 0; leave a source out"):
        ratio([1, 0])
    with pytest.raises(
        UserError, match=r"a ratio of whole numbers up to 10000 in all, got 15707963:50000000; round them"
    ):
        ratio([0.31415926, 1])


def test_the_first_images_of_each_class_are_a_set_of_their_own(packed):
    whole = packed("whole", cat=9, dog=7)
    few = ShardSet(whole.index, per_class=3)
    assert (few.counts, len(few), few.shard_sizes.sum()) == ((3, 3), 6, 6)
    labels = whole.labels
    firsts = sorted(i for label in (0, 1) for i in (labels == label).nonzero().flatten()[:3].tolist())
    assert all(torch.equal(few[k][0], whole[i][0]) for k, i in enumerate(firsts))
    assert few.labels.tolist() == [few[k][1] for k in range(6)]
    dogs = ShardSet(whole.index, classes=["dog"], per_class=5)
    assert (dogs.counts, set(dogs.labels.tolist())) == ((5,), {0})
    assert len({whole.digest, few.digest, dogs.digest, ShardSet(whole.index, per_class=2).digest}) == 4
    with pytest.raises(
        UserError, match=r"per_class wants 8 images of each class, .*whole-out has 7 of 'dog'; lower it"
    ):
        ShardSet(whole.index, per_class=8)


def test_no_more_files_stay_open_than_one_set_may_have(pair, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 4)
    data = Mixture(pair)
    before = len(os.listdir("/proc/self/fd"))
    for i in range(26):
        data[i]
    assert len(os.listdir("/proc/self/fd")) == before + 4
    data.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_pictures_are_those_that_were_packed(pair):
    contents = {pixels(i, 8).tobytes() for i in range(20)}
    assert {pair[0][i][0].permute(1, 2, 0).numpy().tobytes() for i in range(20)} == contents
