"""Packing resumes after a kill, to folders and to URLs, and ends in the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import faulty_s3
import pytest

from hmgan.data.index_files import read_index
from hmgan.data.pack import destinations
from hmgan.data.pack.destinations import Journal
from hmgan.data.pack.pack import pack
from hmgan.data.store.stores import open_store
from hmgan.errors import UserError


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stored(url: str) -> dict[str, bytes]:
    store = open_store(url)
    return {name: store.get(name, 0, store.size(name)) for name in store.names()}


@contextmanager
def killed_after(shards: int, monkeypatch) -> Iterator[None]:
    """Ends a packing as Ctrl-C or a kill would, once so many shards are finished."""
    add = Journal.add

    def counted(self, shard, **facts):
        if len(self.lines) == shards:
            raise KeyboardInterrupt
        add(self, shard, **facts)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", counted)
        with pytest.raises(KeyboardInterrupt):
            yield


def again(monkeypatch) -> list[str]:
    """Lets packing through, and lists the shards that it makes."""
    made: list[str] = []
    add = Journal.add

    def noted(self, shard, **facts):
        made.append(shard.name)
        add(self, shard, **facts)

    monkeypatch.setattr(Journal, "add", noted)
    return made


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_byte(folder, tmp_path, threads):
    src = folder(cat=9, dog=9)
    pack(src, tmp_path / "a", shard_samples=4, name="pets")
    pack(src, tmp_path / "b", shard_samples=4, name="pets", threads=threads)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_a_killed_packing_resumes_and_ends_in_the_same_bytes(folder, tmp_path, monkeypatch):
    src = folder(cat=9, dog=9)
    (src / "cat/000.png").write_bytes(b"damaged")
    (src / "dog/017.png").write_bytes((src / "dog/016.png").read_bytes())
    whole: list[str] = []
    pack(src, tmp_path / "whole", shard_samples=4, name="pets", resolution=8, report=whole.append)
    with killed_after(2, monkeypatch):
        pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8, report=lambda _: None)
    assert not (tmp_path / "out").exists()
    made = again(monkeypatch)
    said: list[str] = []
    pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8, report=said.append)
    assert made == ["pets-000002.tar", "pets-000003.tar", "pets-000004.tar"]
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"src", "whole", "out"}
    assert sum("the same image twice" in line for line in whole) == 1
    assert any("dog/016.png" in line and "dog/017.png" in line for line in whole)


def test_a_finished_shard_that_was_damaged_since_is_made_again(folder, tmp_path, monkeypatch):
    src = folder(cat=9, dog=9)
    pack(src, tmp_path / "whole", shard_samples=4, name="pets")
    with killed_after(3, monkeypatch):
        pack(src, tmp_path / "out", shard_samples=4, name="pets")
    shard = tmp_path / ".out.packing/pets-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    made = again(monkeypatch)
    pack(src, tmp_path / "out", shard_samples=4, name="pets")
    assert made[0] == "pets-000001.tar"
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_a_finished_shard_in_a_store_that_was_damaged_since_is_made_again(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    src, url = folder(cat=9, dog=9), f"memory://damaged/{tmp_path.name}"
    pack(src, tmp_path / "whole", shard_samples=4, name="pets")
    with killed_after(3, monkeypatch):
        pack(src, url, shard_samples=4, name="pets")
    open_store(url).put("pets-000001.tar", stored(url)["pets-000001.tar"][:-1] + b"x")
    made = again(monkeypatch)
    pack(src, url, shard_samples=4, name="pets")
    assert made[0] == "pets-000001.tar"
    assert stored(url) == bytes_of(tmp_path / "whole")


def test_what_another_plan_left_is_not_resumed(folder, tmp_path, monkeypatch):
    src = folder(cat=9, dog=9)
    with killed_after(3, monkeypatch):
        pack(src, tmp_path / "out", shard_samples=4, name="pets")
    pack(src, tmp_path / "out", shard_samples=5, name="pets")
    pack(src, tmp_path / "whole", shard_samples=5, name="pets")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_two_packings_into_one_place_are_refused(folder, tmp_path):
    with (
        destinations.open_destination(tmp_path / "out"),
        pytest.raises(UserError, match="is being packed by another process"),
    ):
        pack(folder(), tmp_path / "out")


def test_packing_to_memory_equals_packing_to_a_folder(folder, tmp_path):
    src, url = folder(cat=9, dog=9), f"memory://{tmp_path.name}"
    pack(src, tmp_path / "here", shard_samples=4, name="pets")
    index = pack(src, url, shard_samples=4, name="pets")
    assert stored(url) == bytes_of(tmp_path / "here")
    assert read_index(url).digest == index.digest
    with pytest.raises(UserError, match="holds a packed data set already"):
        pack(src, url)


def test_packing_to_s3_resumes_after_a_failure_of_the_store(folder, tmp_path, proxied, monkeypatch):
    src, url = folder(cat=9, dog=9), f"s3://{faulty_s3.BUCKET}/{tmp_path.name}"
    pack(src, tmp_path / "here", shard_samples=4, name="pets")
    proxied.plan = lambda method, path, start: "expired" if path.endswith("pets-000002.tar") else None
    with pytest.raises(UserError, match=r"pets-000002\.tar: the store refuses access \(400 ExpiredToken\)"):
        pack(src, url, shard_samples=4, name="pets")
    assert "index.json" not in stored(url)
    proxied.plan = lambda method, path, start: None
    proxied.asked.clear()
    pack(src, url, shard_samples=4, name="pets")
    put = {Path(path).name for method, path, _ in proxied.asked if method == "PUT"}
    assert put == {"pets-000002.tar", "pets-000003.tar", "pets-000004.tar", "index.json", "index.safetensors"}
    assert stored(url) == bytes_of(tmp_path / "here")


@pytest.mark.parametrize("broken", ["first", "later"])
def test_images_that_were_replaced_since_a_kill_are_packed_anew(folder, tmp_path, monkeypatch, broken):
    src = folder(cat=9, dog=9)
    paths = sorted(src.glob("*/*.png"))
    good = {path: path.read_bytes() for path in paths}
    for path in paths[:3] if broken == "first" else paths[-3:]:
        path.write_bytes(b"broken")
    with killed_after(3, monkeypatch):
        pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8, report=lambda _: None)
    for path, content in good.items():
        path.write_bytes(content)
    index = pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8)
    assert (len(index), index.skipped) == (18, 0)
    pack(src, tmp_path / "whole", shard_samples=4, name="pets", resolution=8)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_what_a_killed_packing_left_out_is_named_again(folder, tmp_path, monkeypatch):
    src = folder(cat=9, dog=9)
    broken = sorted(src.glob("*/*.png"))[0]
    broken.write_bytes(b"broken")
    with killed_after(4, monkeypatch):
        pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8, report=lambda _: None)
    said: list[str] = []
    pack(src, tmp_path / "out", shard_samples=4, name="pets", resolution=8, report=said.append)
    assert sum("cannot be read: cat/000.png" in line for line in said) == 1
