from __future__ import annotations

import json
import os
import tarfile
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from hmgan.data.index import OPTIONAL
from hmgan.data.index_files import read_index, write_index
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError


@pytest.fixture
def out(folder, tmp_path):
    pack(folder(), tmp_path / "out", name="pets")
    return tmp_path / "out"


def refused(path) -> str:
    with pytest.raises(UserError) as error:
        read_index(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def change(out, **fields) -> None:
    head = json.loads((out / "index.json").read_text()) | fields
    head = {key: value for key, value in head.items() if value is not None}
    (out / "index.json").write_text(json.dumps(head))


def test_a_folder_without_an_index_is_refused(tmp_path):
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "no readable index.json" in refused(tmp_path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"format": "hmgan-shards/9"}, "must be of format 'hmgan-shards/1', got 'hmgan-shards/9'"),
        ({"counts": None}, "is incomplete or damaged: counts: Field required"),
        ({"classes": [1, "dog"]}, "is incomplete or damaged: classes.0: Input should be a valid string"),
        ({"classes": 7}, "is incomplete or damaged: classes: Input should be a valid list"),
        ({"counts": ["5", 4]}, "is incomplete or damaged: counts.0: Input should be a valid integer"),
        ({"resolution": -8}, "is incomplete or damaged: resolution: Input should be greater than 0"),
        ({"counts": [5, 3]}, "disagree on the number of samples"),
        ({"counts": [9]}, "2 classes and 1 counts"),
        ({"shards": [{"name": "x"}]}, "is incomplete or damaged: shards.0.bytes"),
        ({"arrays_sha256": "0"}, "damaged or belongs to another"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(out, fields, text):
    change(out, **fields)
    assert text in refused(out)


def test_a_damaged_index_is_refused(out):
    (out / "index.json").write_text("{")
    assert "is damaged" in refused(out)


def test_missing_arrays_are_told(out):
    (out / "index.safetensors").unlink()
    assert "no readable index.safetensors" in refused(out)


def test_the_arrays_of_another_data_set_are_told(out, folder, tmp_path):
    pack(folder("more", cat=9, dog=9), tmp_path / "other")
    os.replace(tmp_path / "other/index.safetensors", out / "index.safetensors")
    assert "belongs to another" in refused(out)


def test_a_missing_or_cut_off_shard_is_named(out):
    tar = out / "pets-000000.tar"
    os.truncate(tar, 1000)
    assert "pets-000000.tar must be" in refused(out)
    tar.unlink()
    assert "shard pets-000000.tar is missing" in refused(out)


def test_labels_that_are_no_classes_are_refused(out):
    index = read_index(out)
    write_index(replace(index, label=np.where(np.arange(9) == 6, 2, index.label)), out)
    assert "labels must be numbers of classes, got 0 to 2 with 2 classes" in refused(out)


def test_labels_that_disagree_with_the_counts_are_refused(out):
    index = read_index(out)
    write_index(replace(index, label=1 - index.label), out)
    assert "counts (5, 4), the labels (4, 5)" in refused(out)


def test_samples_that_do_not_lie_shard_after_shard_are_refused(out):
    index = read_index(out)
    write_index(replace(index, shard=index.shard + 1), out)
    assert "samples 0 to 8 must be of shard 0" in refused(out)


def test_the_index_names_every_sample(out):
    index = read_index(out)
    with tarfile.open(out / "pets-000000.tar") as tar:
        names = [name.removesuffix(".png") for name in tar.getnames() if name.endswith(".png")]
    ends = [0, *index.key_end.tolist()]
    keys = index.key.tobytes().decode()
    assert [keys[begin:end] for begin, end in pairwise(ends)] == names
    assert set(names) == {*(f"cat/{i:03d}" for i in range(5)), *(f"dog/{i:03d}" for i in range(5, 9))}


def test_an_index_without_keys_is_read_and_is_the_same_data_set(out):
    index = read_index(out)
    write_index(replace(index, key=index.key[:0], key_end=index.key_end[:0]), out)
    assert read_index(out).digest == index.digest
    assert len(read_index(out).key) == 0


def test_the_index_has_the_crc32_of_every_image(out):
    index, tar = read_index(out), (out / "pets-000000.tar").read_bytes()
    images = [tar[offset:][:length] for offset, length in zip(index.offset, index.length, strict=True)]
    assert index.crc32.tolist() == [zlib.crc32(image) for image in images]
    assert all(shard.by_parts for shard in index.shards)


def test_an_index_without_crc32s_is_read_and_is_the_same_data_set(out):
    index = read_index(out)
    write_index(replace(index, crc32=index.crc32[:0]), out)
    older = read_index(out)
    assert (older.digest, len(older.crc32)) == (index.digest, 0)
    assert not any(shard.by_parts for shard in older.shards)


def test_crc32s_that_are_not_one_for_each_sample_are_refused(out, monkeypatch):
    index = read_index(out)
    for changed in (index.crc32[:-1], index.crc32[:, None]):
        write_index(replace(index, crc32=changed), out)
        assert "must hold a crc32 for each of 9 samples" in refused(out)
    monkeypatch.setitem(OPTIONAL, "crc32", {"crc32": np.int32})
    write_index(replace(index, crc32=index.crc32.view(np.int32)), out)
    monkeypatch.undo()
    assert "must hold crc32 as uint32" in refused(out)


def test_keys_that_are_not_one_for_each_sample_are_refused(out):
    index = read_index(out)
    for changed in (replace(index, key_end=index.key_end[:-1]), replace(index, key=index.key[:-1])):
        write_index(changed, out)
        assert "must hold a key for each of 9 samples" in refused(out)
