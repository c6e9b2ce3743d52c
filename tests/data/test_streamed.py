"""Shards without an index, through webdataset's own reader."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from itertools import islice

import faulty_s3
import pytest
import torch
from tiny_pictures import pixels, png

from hmgan.config.settings import Data
from hmgan.data.images import Reading
from hmgan.data.named import open_training, scored_against
from hmgan.data.store.stores import open_store
from hmgan.data.streamed import Streamed
from hmgan.errors import UserError

CLASSES = ("cat", "dog")
SIZES = (5, 2, 4, 1)  # images of each shard


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path):
    """12 images in 4 shards; of image i the pixels are `pixels(i)`, and the class is i % 2, as number or as name."""
    i = 0
    (tmp_path / "shards").mkdir()
    for number, size in enumerate(SIZES):
        with tarfile.open(tmp_path / f"shards/x-{number}.tar", "w") as tar:
            for _ in range(size):
                add(tar, f"{i:03d}.png", png(pixels(i, 8)))
                add(tar, f"{i:03d}.cls", str(i % 2 if i < 6 else CLASSES[i % 2]).encode())
                i += 1
    return tmp_path / "shards"


def shown(data: Streamed, images: int, *, rank: int = 0, world: int = 1, batch: int = 2, **options) -> list:
    """Numbers and labels of the images."""
    number = {pixels(i, 8).tobytes(): i for i in range(12)}
    steps = data.batches(Reading(**(dict(batch_per_rank=batch, rank=rank, world=world, seed=1) | options)))
    return [
        (number[image.permute(1, 2, 0).numpy().tobytes()], int(label))
        for step in islice(steps, images // batch)
        for image, label in zip(*step, strict=True)
    ]


def streamed(place, **options) -> Streamed:
    return Streamed([str(place)], **(dict(classes=CLASSES, buffer=4) | options))


def told(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_image_comes_once_in_a_pass_with_its_label_and_passes_differ(shards):
    data = streamed(shards, buffer=1)
    assert (data.resolution, data.classes) == (8, CLASSES)
    seen = shown(data, 36)
    for first in (0, 12, 24):
        assert sorted(i for i, _ in seen[first : first + 12]) == list(range(12))
    assert all(label == i % 2 for i, label in seen)
    assert seen[:12] != seen[12:24]


def test_an_order_follows_from_seed_ranks_and_workers(shards):
    data = streamed(shards)
    assert shown(data, 24) == shown(data, 24) != shown(data, 24, seed=2)
    assert shown(data, 24, workers=2) == shown(data, 24, workers=2)
    assert {i for i, _ in shown(data, 48, workers=2)} == set(range(12))


def test_ranks_and_workers_share_each_pass_out(shards):
    """Over some passes every image comes about as often, whoever reads it."""
    data = streamed(shards, buffer=1)
    seen = Counter(i for rank in range(2) for i, _ in shown(data, 240, rank=rank, world=2))
    assert set(seen) == set(range(12))
    assert max(seen.values()) < 3 * min(seen.values())


def test_without_labels_none_are_needed(shards):
    bare = streamed(shards, classes=()).unlabelled()
    assert bare.classes == ("all",)
    assert {label for _, label in shown(bare, 12)} == {0}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_partial_sample_is_told_with_its_shard_and_key(shards, workers):
    with tarfile.open(shards / "x-1.tar", "w") as tar:
        add(tar, "alone.cls", b"0")
    text = told(lambda: shown(streamed(shards), 12, workers=workers))
    assert f"sample alone in shard {shards}/x-1.tar is partial: it must have one image and a .cls, got cls" in text
    with tarfile.open(shards / "x-1.tar", "w") as tar:
        add(tar, "bare.png", png(pixels(0, 8)))
    assert "sample bare in" in told(lambda: shown(streamed(shards), 12, workers=workers))


@pytest.mark.parametrize("left", [512, 1200, 1536, 3072])
def test_a_shard_that_is_cut_anywhere_is_told(shards, left):
    content = (shards / "x-0.tar").read_bytes()
    (shards / "x-0.tar").write_bytes(content[:left])
    text = told(lambda: shown(streamed(shards), 24))
    assert f"{shards}/x-0.tar" in text


def test_a_damaged_header_is_not_taken_for_the_end(shards):
    with open(shards / "x-0.tar", "r+b") as file:
        file.seek(2 * 4 * 512)  # an image and a label are two blocks each
        file.write(bytes(512))
    assert "is cut off or damaged: it does not end as a tar does" in told(lambda: shown(streamed(shards), 24))


def test_images_and_labels_that_do_not_fit_are_told_with_their_place(shards):
    with tarfile.open(shards / "x-3.tar", "w") as tar:
        add(tar, "large.png", png(pixels(0, 16)))
        add(tar, "large.cls", b"0")
    assert "sample large in shard" in (text := told(lambda: shown(streamed(shards), 24)))
    assert "must be 8 x 8 px like the first, got 16 x 16" in text
    (shards / "x-3.tar").unlink()
    text = told(lambda: shown(streamed(shards, classes=("cat", "cow")), 24))
    assert "has the label 'dog'; data.classes must name every class, got cat, cow" in text
    with tarfile.open(shards / "x-3.tar", "w") as tar:
        add(tar, "bad.png", b"no image")
        add(tar, "bad.cls", b"0")
    assert "sample bad in shard" in told(lambda: shown(streamed(shards), 24))


def test_shards_must_be_enough_for_all_readers(shards):
    text = told(lambda: streamed(shards).batches(Reading(batch_per_rank=1, world=3, seed=1, workers=2)))
    assert "needs a shard for each of 3 ranks x 2 workers, got 4 for 6; lower loader.workers, or run `hmgan" in text
    assert "holds no .tar shards" in told(lambda: streamed(shards.parent))


def test_a_resume_says_that_it_is_not_exact(shards):
    said: list[str] = []
    shown(streamed(shards), 2, start_step=5, report=said.append)
    assert len(said) == 1
    assert "cannot resume where it was: the images from here on are drawn anew" in said[0]
    shown(streamed(shards), 2, report=said.append)
    assert len(said) == 1


def test_what_needs_an_index_is_refused(shards):
    data = Data(sources=[str(shards)], reader="webdataset")
    assert "name the classes 0, 1, ... in data.classes" in told(lambda: open_training(data, labelled=True))
    images = open_training(data.model_copy(update={"classes": list(CLASSES)}), labelled=True)
    assert 'a study needs an index, and data.reader = "webdataset" has none' in told(lambda: images.indexed("a study"))
    assert "scores need images with an index" in told(lambda: scored_against(data))
    for field, value in (("weights", [1]), ("balance", True), ("per_class", 3)):
        with pytest.raises(ValueError, match=f'{field} needs an index, and reader "webdataset" has none'):
            Data(sources=["x"], reader="webdataset", **{field: value})
    with pytest.raises(ValueError, match='buffer is of reader "webdataset"'):
        Data(sources=["x"], buffer=5)


def test_examples_are_the_first_of_each_class(shards):
    found = streamed(shards).examples(2)
    assert list(found) == ["cat", "dog"]
    wanted = torch.stack([torch.from_numpy(pixels(i, 8)).permute(2, 0, 1) for i in (1, 3)])
    assert torch.equal(found["dog"], wanted)
    assert len(streamed(shards, classes=()).unlabelled().examples(3)["all"]) == 9


@pytest.mark.parametrize("scheme", ["memory", "s3"])
def test_shards_in_a_store_are_read_like_local_ones(shards, scheme, tmp_path, request):
    if scheme == "s3":
        request.getfixturevalue("s3")
    url = f"{scheme}://{faulty_s3.BUCKET}/{tmp_path.name}"
    for path in shards.iterdir():
        open_store(url).put(path.name, path.read_bytes())
    assert shown(streamed(url), 24) == shown(streamed(shards), 24)
    if scheme == "s3":  # in a process of its own
        assert shown(streamed(url), 8, workers=1) == shown(streamed(shards), 8)
