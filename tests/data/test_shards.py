from __future__ import annotations

import io
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hmgan.data import decode, shards
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError


@pytest.fixture
def index(folder, tmp_path):
    return pack(folder(), tmp_path / "out", shard_samples=4, name="pets")


def message(action) -> str:
    with pytest.raises(UserError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def overwrite(index, row: int, content: bytes) -> None:
    """Put `content` in the place of an image, in the shard on the disk."""
    with open(index.folder.path / index.shards[index.shard[row]].name, "r+b") as file:
        file.seek(index.offset[row])
        file.write(content)


def key_of(index, row: int) -> str:
    with open(index.folder.path / index.shards[index.shard[row]].name, "rb") as file:
        file.seek(index.offset[row] - 512)
        return file.read(100).split(b".png")[0].decode()


def encoded(size: int, kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (10, 200, 30)).save(file, kind)
    return file.getvalue()


def test_labels_and_counts_agree_with_the_samples(index):
    data = ShardSet(index)
    assert data.labels.tolist() == [label for _, label in (data[i] for i in range(len(data)))]
    assert data.counts == (5, 4)
    assert data.labels.dtype == torch.int64
    assert data[0][0].dtype == torch.uint8


def test_another_resolution_is_refused(index):
    assert "is 8 px, the network wants 16 px" in message(lambda: ShardSet(index, resolution=16))
    assert ShardSet(index, resolution=8).resolution == 8


def test_chosen_classes_are_relabelled_in_the_order_given(index):
    whole, swapped, dogs = ShardSet(index), ShardSet(index, classes=["dog", "cat"]), ShardSet(index, classes=["dog"])
    assert (swapped.labels == 1 - whole.labels).all()
    assert (dogs.counts, len(dogs), dogs[0][1]) == ((4,), 4, 0)
    assert torch.equal(dogs[0][0], whole[int((whole.labels == 1).nonzero()[0])][0])
    assert len({whole.digest, swapped.digest, dogs.digest}) == 3
    assert len({whole.digest, dogs.digest, whole.unlabelled().digest, dogs.unlabelled().digest}) == 4


def test_unknown_and_repeated_classes_are_refused(index):
    assert "no class 'cow'" in message(lambda: ShardSet(index, classes=["cow"]))
    assert "'cat' twice" in message(lambda: ShardSet(index, classes=["cat", "cat"]))
    assert "got none" in message(lambda: ShardSet(index, classes=[]))


@pytest.mark.parametrize("row", [0, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", [4, 9])
def test_an_image_of_the_wrong_size_is_named_with_its_shard(index, row, kind, size):
    content = encoded(size, kind)
    lengths = index.length.copy()
    lengths[row] = len(content)
    overwrite(index, row, content)
    text = message(lambda: ShardSet(replace(index, length=lengths))[row])
    assert f"/pets-00000{row // 4}.tar must be 8 x 8 px, got {size} x {size}" in text


@pytest.mark.parametrize("garbage", [b"\0" * 60, b"\xff\xd8" + b"\0" * 60])
def test_unreadable_bytes_are_named_with_their_shard(index, garbage):
    overwrite(index, 5, garbage)
    text = message(lambda: ShardSet(index)[5])
    place = f"at byte {index.offset[5]} in shard {index.folder}/pets-000001.tar"
    assert f"image {key_of(index, 5)} {place} cannot be decoded" in text


def test_a_shard_cut_off_after_opening_is_named(index):
    data = ShardSet(index)
    os.truncate(index.folder.path / "pets-000002.tar", int(index.offset[8]) + 10)
    place = f"at byte {index.offset[8]} in shard {index.folder}/pets-000002.tar"
    assert f"image {key_of(index, 8)} {place} is cut off: got 10 of" in message(lambda: data[8])


def test_jpeg_is_decoded_with_and_without_simplejpeg(index, monkeypatch):
    content = encoded(8, "JPEG")
    fast, slow = np.zeros((2, 8, 8, 3), np.uint8)
    decode.decode_into(content, fast)
    monkeypatch.setattr(decode, "simplejpeg", None)
    decode.decode_into(content, slow)
    assert np.abs(fast.astype(int) - slow).max() <= 2
    assert np.abs(fast.astype(int) - (10, 200, 30)).max() <= 4


def test_a_copy_sent_to_another_process_opens_its_own_files(index):
    data = ShardSet(index)
    first = data[0][0]
    copy = pickle.loads(pickle.dumps(data))
    data.close()
    assert torch.equal(copy[0][0], first)
    assert torch.equal(data[0][0], first)


def test_no_more_files_stay_open_than_allowed(index, monkeypatch):
    monkeypatch.setattr(shards, "OPEN_FILES", 2)
    data = ShardSet(index)
    before = len(os.listdir("/proc/self/fd"))
    images = [data[i][0] for i in (0, 4, 8, 0, 4, 8)]
    assert len(os.listdir("/proc/self/fd")) == before + 2
    assert all(np.array_equal(a, b) for a, b in zip(images[:3], images[3:], strict=True))
    data.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_unlabelled_is_the_same_images_as_one_class(index):
    whole = ShardSet(index)
    view = whole.unlabelled()
    assert (view.classes, view.counts, len(view)) == (("all",), (len(whole),), len(whole))
    assert [view[i][1] for i in range(len(view))] == [0] * len(whole)
    assert all(torch.equal(view[i][0], whole[i][0]) for i in range(len(view)))
    whole.close()  # the view reads on, from files of its own
    assert len(view[0][0]) == 3
    assert view.unlabelled() is view
    assert whole.classes == ("cat", "dog")
