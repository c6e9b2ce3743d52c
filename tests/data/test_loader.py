from __future__ import annotations

from itertools import islice

import pytest
import torch

from hmgan.data import loader
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError


@pytest.fixture
def data(folder, tmp_path):
    return ShardSet(pack(folder(cat=5, dog=4), tmp_path / "out", shard_samples=4, name="pets"))


def take(data, steps: int, **options):
    return list(islice(batches(data, Reading(**(dict(batch_per_rank=2, seed=1) | options))), steps))


def same(a, b) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(torch.equal(x.images, y.images) and torch.equal(x.labels, y.labels) for x, y in pairs)


def test_a_batch_holds_images_and_their_labels(data):
    label_of = {data[i][0].numpy().tobytes(): data[i][1] for i in range(len(data))}
    (batch,) = take(data, 1, batch_per_rank=7)
    assert (batch.images.shape, batch.images.dtype) == ((7, 3, 8, 8), torch.uint8)
    assert batch.labels.dtype == torch.int64
    assert [label_of[image.numpy().tobytes()] for image in batch.images] == batch.labels.tolist()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_every_sample_is_shown_once_per_epoch(data, world):
    per_rank = [take(data, 9, rank=rank, world=world, batch_per_rank=1) for rank in range(world)]
    images = [batch.images.numpy().tobytes() for step in zip(*per_rank, strict=True) for batch in step]
    for epoch in range(world):
        assert len(set(images[9 * epoch : 9 * epoch + 9])) == 9


SOME = [(1, 3), (2, 2), (3, 1), (4, 1)]
OTHERS = [(world, workers) for world in (1, 2, 3, 4) for workers in (1, 2, 3) if (world, workers) not in SOME]


@pytest.mark.parametrize(("world", "workers"), SOME + [pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS])
def test_every_sample_is_shown_once_per_epoch_with_workers_too(folder, tmp_path, world, workers, monkeypatch):
    monkeypatch.setattr(loader, "WINDOW", 5)
    ragged = ShardSet(pack(folder(cat=8, dog=5), tmp_path / "out", shard_samples=3, name="pets"))  # 3, 3, 3, 3, 1
    ranks = [take(ragged, 13, rank=rank, world=world, batch_per_rank=1, workers=workers) for rank in range(world)]
    images = [batch.images.numpy().tobytes() for step in zip(*ranks, strict=True) for batch in step]
    for epoch in range(world):
        assert len(set(images[13 * epoch : 13 * epoch + 13])) == 13


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(data, workers):
    assert same(take(data, 12, workers=workers, start_step=3), take(data, 12, start_step=3))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_at_any_step_sees_what_it_would_have_seen(data, workers):
    whole = take(data, 14)
    for start in (1, 5, 9):
        assert same(take(data, 5, start_step=start, workers=workers), whole[start : start + 5])
    assert not same(take(data, 5, start_step=1), whole[:5])


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_random_stream_alone(data, workers):
    state = torch.get_rng_state()
    take(data, 2, workers=workers)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_told_in_one_line_whoever_reads_it(data, workers):
    for row in range(len(data)):
        with open(data.index.folder.path / data.index.shards[data.index.shard[row]].name, "r+b") as file:
            file.seek(data.index.offset[row])
            file.write(b"\0" * 20)
    with pytest.raises(
        UserError, match=r"^image \S+ at byte \d+ in shard \S+/pets-00000\d.tar cannot be decoded[^\n]*$"
    ):
        take(data, 1, workers=workers)


def test_counts_out_of_range_are_refused_before_the_first_batch():
    for options in ({"batch_per_rank": 0}, {"workers": -1}, {"start_step": -1}):
        with pytest.raises(UserError, match="must be at least"):
            Reading(**(dict(batch_per_rank=1, seed=1) | options))
    with pytest.raises(ValueError, match=r"rank must lie in 0\.\.1, got 2"):
        Reading(batch_per_rank=1, rank=2, world=2, seed=1)
