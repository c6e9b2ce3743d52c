from __future__ import annotations

import json
import os
from dataclasses import replace

import faulty_s3
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from hmgan.data.index_files import read_index, write_index
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.store.stores import open_store
from hmgan.data.tools import make_index, verify
from hmgan.errors import UserError


@pytest.fixture
def out(folder, tmp_path):
    pack(folder(), tmp_path / "out", shard_samples=4, name="pets")
    return tmp_path / "out"


def bare(out):
    """The shards without their index, as others make them."""
    for name in ("index.json", "index.safetensors"):
        (out / name).unlink()


def silent(_: str) -> None: ...


def test_the_index_of_bare_shards_is_that_of_the_packing(out):
    index = read_index(out)
    bare(out)
    made = make_index(str(out), ["cat", "dog"], silent)
    assert made.digest == index.digest
    assert made.key.tobytes() == index.key.tobytes()
    assert made.key_end.tolist() == index.key_end.tolist()
    assert made.crc32.tolist() == index.crc32.tolist()


def test_bare_shards_in_s3_are_indexed_there(out, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    url, digest = f"s3://{faulty_s3.BUCKET}/{tmp_path.name}", read_index(out).digest
    for path in out.glob("*.tar"):
        open_store(url).put(path.name, path.read_bytes())
    assert make_index(url, ["cat", "dog"], silent).digest == digest
    assert read_index(url).digest == digest


def test_shards_that_cannot_be_indexed_are_told(out, tmp_path):
    with pytest.raises(UserError, match="names 3 classes, the shards have 0, 1"):
        make_index(str(out), ["a", "b", "c"], silent)
    with pytest.raises(UserError, match=r"holds no \.tar shards"):
        make_index(str(tmp_path), None, silent)
    (out / "pets-000001.tar").write_bytes(b"no tar")
    with pytest.raises(UserError, match=r"pets-000001\.tar cannot be indexed"):
        make_index(str(out), None, silent)


def test_a_whole_set_verifies_and_a_flipped_byte_does_not(out):
    assert verify(str(out), silent) == []
    index = read_index(out)
    with open(out / "pets-000001.tar", "r+b") as file:
        os.pwrite(file.fileno(), b"\0", int(index.offset[5]) + int(index.length[5]) - 20)
    wrong = verify(str(out), silent)
    assert any("pets-000001.tar has the sha256" in line for line in wrong)
    assert not any("pets-000000" in line for line in wrong)


def test_crc32s_of_other_images_are_found_by_verify_and_local_reading_does_without_them(out):
    index = read_index(out)
    write_index(replace(index, crc32=index.crc32 ^ np.uint32([0] * 5 + [1] + [0] * 3)), out)
    wrong = verify(str(out), silent)
    assert len(wrong) == 1
    assert f"at byte {index.offset[5]} in shard {out}/pets-000001.tar has not the crc32" in wrong[0]
    assert torch.equal(ShardSet(out)[5][0], ShardSet(index)[5][0])


def test_a_damaged_header_is_not_taken_for_the_end_of_a_shard(out):
    index = read_index(out)
    with open(out / "pets-000001.tar", "r+b") as file:
        os.pwrite(file.fileno(), b"x", int(index.offset[6]) - 512)
    bare(out)
    with pytest.raises(UserError, match=r"pets-000001\.tar cannot be indexed: the header at byte \d+ is damaged"):
        make_index(str(out), None, silent)


def test_a_store_is_verified_where_it_lies_whatever_the_cache_holds(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    url = f"memory://verified/{tmp_path.name}"
    index = pack(folder(), url, shard_samples=4, name="pets")
    assert verify(url, silent) == []
    data = ShardSet(url)
    whole = [data[i][0] for i in range(9)]  # and in the cache now
    store, offset = open_store(url), int(index.offset[5]) + 20
    content = store.get("pets-000001.tar", 0, store.size("pets-000001.tar"))
    store.put("pets-000001.tar", content[:offset] + bytes([content[offset] ^ 255]) + content[offset + 1 :])
    assert all((ShardSet(url)[i][0] == image).all() for i, image in enumerate(whole))
    (wrong,) = verify(url, silent)
    assert "pets-000001.tar has not the sha256" in wrong
    assert not list((tmp_path / "cache").glob("verify-*"))


def test_the_commands_print_and_draw(out, tmp_path, capsys):
    assert tiny.command("data", "inspect", out, "--grid", tmp_path / "grid.png") == 0
    said = capsys.readouterr().out
    assert "9 images of 8 px in 3 shards" in said
    assert "cat" in said
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.size[0] > 8
    assert tiny.command("data", "verify", out) == 0
    assert "3/3 pets-000002.tar ok" in capsys.readouterr().out
    bare(out)
    assert tiny.command("index", out, "--classes", "cat,dog") == 0
    os.truncate(out / "pets-000001.tar", 1000)
    assert tiny.command("data", "verify", out) == 2
    assert "pets-000001.tar must be" in capsys.readouterr().err


def test_an_index_that_is_there_keeps_its_names(out):
    index = read_index(out)
    made = make_index(str(out), None, silent)
    assert (made.digest, made.classes, made.skipped) == (index.digest, ("cat", "dog"), index.skipped)
    assert make_index(str(out), ["a", "b"], silent).classes == ("a", "b")
    bare(out)
    assert make_index(str(out), None, silent).classes == ("0", "1")


def test_names_that_do_not_fit_the_shards_any_more_are_not_thrown_away(out, folder, tmp_path):
    pack(folder("more", a=1, b=1, c=1), tmp_path / "three", name="three")
    (tmp_path / "three/three-000000.tar").rename(out / "three-000000.tar")
    before = (out / "index.json").read_bytes()
    with pytest.raises(UserError, match=r"names the classes cat, dog, the shards have 0, 1, 2; name each"):
        make_index(str(out), None, silent)
    assert (out / "index.json").read_bytes() == before


@pytest.mark.parametrize("content", ['{"mine": 1}', "[1]", "no JSON"])
def test_a_file_of_another_meaning_is_not_overwritten(out, content):
    (out / "index.json").write_text(content)
    with pytest.raises(UserError, match="move it away"):
        make_index(str(out), None, silent)
    assert (out / "index.json").read_text() == content


@pytest.mark.parametrize("changed", [{"classes": [[0.5, "a"], "b"]}, {"skipped": "2"}, {"background": 7}])
def test_an_index_with_a_value_of_another_kind_is_not_built_upon(out, tmp_path, changed):
    path = out / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    before = path.read_bytes()
    for used in (lambda: make_index(str(out), None, silent), lambda: pack(out, tmp_path / "anew", report=silent)):
        with pytest.raises(UserError, match=f"no index of hmgan \\({next(iter(changed))}.*move it away"):
            used()
    assert path.read_bytes() == before


def test_one_shard_of_a_packed_set_keeps_the_names(out, tmp_path):
    assert pack(out / "pets-000000.tar", tmp_path / "one", report=silent).classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["src", "a.zip"])
def test_the_hint_never_names_images_as_the_place_to_write(folder, tmp_path, name):
    place = folder() if name == "src" else tmp_path / name
    if name == "a.zip":
        place.write_bytes(b"images")
    with pytest.raises(UserError, match=rf"`hmgan pack {place} DST`") as error:
        read_index(place)
    assert f"SRC {place}" not in str(error.value)
    with pytest.raises(UserError, match=r"exists already and holds files; choose a new folder$"):
        pack(folder("other"), place)
