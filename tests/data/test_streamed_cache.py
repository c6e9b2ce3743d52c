"""Shards without an index are read from their store once, and then from the cache."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from itertools import islice
from pathlib import Path

import faulty_s3
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from tiny_pictures import pixels, png

from hmgan.data.images import Reading
from hmgan.data.store import stores
from hmgan.data.store.cache import PARTIAL, DiskCache
from hmgan.data.store.stores import open_store
from hmgan.data.streamed import Streamed
from hmgan.data.tarstream import samples
from hmgan.errors import UserError

IMAGES = 6  # in each of 2 shards


def shard(first: int) -> bytes:
    """Images from `first` on."""
    with tarfile.open(fileobj=(file := io.BytesIO()), mode="w") as tar:
        for i in range(first, first + IMAGES):
            for end, content in ("png", png(pixels(i, 8))), ("cls", b"0"):
                member = tarfile.TarInfo(f"{i:03d}.{end}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Of a cache that nothing is in; blocks are so small that a shard has several."""
    monkeypatch.setattr(stores, "BLOCK", 1500)
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/shards"


@pytest.fixture
def url(folder, tmp_path) -> str:
    """Of two shards in memory."""
    place = f"memory://{tmp_path.name}"
    for number in range(2):
        open_store(place).put(f"x-{number}.tar", shard(number * IMAGES))
    return place


@pytest.fixture
def got(monkeypatch) -> list[str]:
    """The names of the shards that bytes are asked of, request by request."""
    asked: list[str] = []
    cat_file = MemoryFileSystem.cat_file

    def counted(self, path, start=None, end=None, **options):
        asked.append(path.rpartition("/")[2])
        return cat_file(self, path, start, end, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", counted)
    return asked


def streamed(url: str) -> Streamed:
    return Streamed([url], classes=("cat",), buffer=1)


def shown(data: Streamed, images: int = 2 * IMAGES, **options) -> set[int]:
    number = {pixels(i, 8).tobytes(): i for i in range(100)}
    steps = data.batches(Reading(batch_per_rank=1, seed=1, **options))
    return {number[image[0].permute(1, 2, 0).numpy().tobytes()] for image, _ in islice(steps, images)}


def read(url: str, cache: DiskCache) -> list[bytes]:
    """The images of one pass, to its end."""
    return [sample.image for sample in samples([f"{url}/x-{i}.tar" for i in range(2)], True, cache)]


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if not path.name.startswith("."))


def images(*numbers: int) -> list[bytes]:
    return [png(pixels(i, 8)) for i in numbers]


ALL = images(*range(2 * IMAGES))


def test_a_second_pass_and_a_second_run_download_nothing(url, got, folder):
    data = streamed(url)
    got.clear()
    assert shown(data, 4 * IMAGES) == set(range(2 * IMAGES))
    one_pass = sum(len(shard(first)) // 1500 + 1 for first in (0, IMAGES))
    assert len(got) == one_pass
    assert len(kept(folder)) == 2
    got.clear()
    assert shown(streamed(url), 4 * IMAGES) == set(range(2 * IMAGES))
    assert len(streamed(url).examples(2)["cat"]) == 4
    assert got == []


def test_the_first_sample_does_not_wait_for_the_whole_shard(url, got, folder):
    with closing(samples([f"{url}/x-0.tar"], True, DiskCache(folder, 10**6))) as found:
        next(found)
        assert len(got) <= 2 < len(shard(0)) // 1500


def test_a_process_that_ends_within_a_shard_leaves_nothing(folder):
    script = (
        "import sys; from pathlib import Path\n"
        "from hmgan.data.store.cache import DiskCache; from hmgan.data.store.through import Copy\n"
        "copy = Copy(DiskCache(Path(sys.argv[1]), 10**6), 'a' * 64, 1000)\n"
        "copy.take(b'half')\n"
        "print(*[path.name for path in Path(sys.argv[1]).glob('*.partial')])"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    assert done.stdout == "a" * 64 + ".partial\n"
    assert kept(folder) == []


@pytest.mark.parametrize("end", ["early", "with an error"])
def test_a_reader_that_stops_within_a_shard_leaves_nothing(url, folder, end):
    if end == "early":
        streamed(url).examples(1)
    else:
        open_store(url).put("x-0.tar", shard(0)[:4000])
        with pytest.raises(UserError, match=r"x-0\.tar"):
            read(url, DiskCache(folder, 10**6))
    assert kept(folder) == []


def test_a_changed_shard_is_downloaded_anew(url, folder):
    cache = DiskCache(folder, 10**6)
    assert read(url, cache) == ALL
    open_store(url).put("x-0.tar", shard(50))
    assert len(shard(50)) == len(shard(0))
    assert read(url, cache) == images(*range(50, 50 + IMAGES)) + ALL[IMAGES:]


def test_a_shard_that_changes_while_it_is_read_is_not_kept(url, folder):
    found = samples([f"{url}/x-0.tar"], True, DiskCache(folder, 10**6))
    next(found)
    open_store(url).put("x-0.tar", shard(0))
    assert len(list(found)) == IMAGES - 1
    assert kept(folder) == []


def test_a_file_that_the_disk_spoiled_is_downloaded_again(url, got, folder):
    read(url, DiskCache(folder, 10**6))
    for path in kept(folder):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    got.clear()
    assert read(url, DiskCache(folder, 10**6)) == ALL
    assert set(got) == {"x-0.tar", "x-1.tar"}
    got.clear()
    assert read(url, DiskCache(folder, 10**6)) == ALL
    assert got == []


def test_a_cache_that_may_only_be_read_is_read(url, got, folder, monkeypatch):
    read(url, DiskCache(folder, 10**6))
    got.clear()

    def refused(*_, **__) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(os, "utime", refused)
    assert read(url, DiskCache(folder, 10**6)) == ALL
    assert got == []


def test_of_two_readers_at_once_one_keeps_the_shard_and_both_read_it(url, got, folder):
    readers = [samples([f"{url}/x-0.tar"], True, DiskCache(folder, 10**6)) for _ in range(2)]
    assert [[sample.image for sample in pair] for pair in zip(*readers, strict=True)] == [[i, i] for i in ALL[:IMAGES]]
    assert len(kept(folder)) == 1
    got.clear()
    read(url, DiskCache(folder, 10**6))
    assert set(got) == {"x-1.tar"}


def test_the_least_recently_used_goes_first_and_what_is_being_written_stays(url, folder):
    size = len(shard(0))
    cache = DiskCache(folder, size * 3 // 2)
    read(url, cache)
    (last,) = kept(folder)
    assert last.read_bytes() == shard(IMAGES)
    first, second = (samples([f"{url}/x-{i}.tar"], True, cache) for i in range(2))
    next(first)  # takes the room
    (folder / "small").write_bytes(bytes(size // 4))
    assert [sample.image for sample in second] == ALL[IMAGES:]
    assert {path.suffix or path.name for path in kept(folder)} == {PARTIAL, "small"}  # dropped for nothing: none
    assert len(list(first)) == IMAGES - 1
    assert {path.read_bytes() for path in kept(folder)} == {shard(0), bytes(size // 4)}


def test_a_shard_larger_than_the_limit_is_streamed_and_told_once(url, folder, capfd):
    cache = DiskCache(folder, len(shard(0)) - 1)
    for _ in range(2):
        assert read(url, cache) == ALL
    assert kept(folder) == []
    (line,) = capfd.readouterr().err.splitlines()
    assert "keeps no file larger than" in line
    assert "raise HMGAN_CACHE_GIB" in line


def test_a_store_that_tells_no_version_is_read_anew_every_time(url, folder, monkeypatch, capfd):
    monkeypatch.setattr(MemoryFileSystem, "modified", fsspec.AbstractFileSystem.modified)
    cache = DiskCache(folder, 10**6)
    assert read(url, cache) == ALL
    open_store(url).put("x-0.tar", shard(50))
    assert read(url, cache) == images(*range(50, 50 + IMAGES)) + ALL[IMAGES:]
    assert kept(folder) == []
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{url} tells no versions" in line


def nowhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.parent.mkdir()
    folder.write_text("a file where the cache should be")


def no_large_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))


def full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, content: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("refuses", [nowhere, no_large_files, full])
def test_a_cache_that_cannot_be_written_is_told_once_and_stops_nobody(
    url, folder, monkeypatch, capsys, refuses: Callable[[Path, pytest.MonkeyPatch], None]
):
    limits, cache = resource.getrlimit(resource.RLIMIT_FSIZE), DiskCache(folder, 10**6)
    refuses(folder, monkeypatch)
    try:
        passes = [read(url, cache) for _ in range(2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert passes == [ALL, ALL]
    assert kept(folder) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cannot write to the cache {folder}: ")


def _reads(url: str, folder: Path, begin: threading.Barrier) -> None:
    begin.wait()
    assert read(url, DiskCache(folder, 10**6)) == ALL


def test_processes_that_read_the_same_at_once_keep_it_once(url, folder):
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(3)
    readers = [context.Process(target=_reads, args=(url, folder, begin)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert [reader.exitcode for reader in readers] == [0, 0, 0]
    assert sorted(path.read_bytes() for path in kept(folder)) == sorted(map(shard, (0, IMAGES)))


def test_what_a_worker_read_from_s3_is_kept_for_others_without_a_word_of_where_it_is_from(
    s3, folder, proxied, tmp_path
):
    url = f"s3://{faulty_s3.BUCKET}/{tmp_path.name}"
    for number in range(2):
        open_store(url).put(f"x-{number}.tar", shard(number * IMAGES))
    assert shown(streamed(url), 4 * IMAGES, workers=1) == set(range(2 * IMAGES))
    proxied.asked.clear()
    assert shown(streamed(url), 4 * IMAGES) == set(range(2 * IMAGES))
    assert {method for method, path, _ in proxied.asked if path.endswith(".tar")} == {"HEAD"}
    assert len(kept(folder)) == 2
    for path in kept(folder):
        assert re.fullmatch("[0-9a-f]{64}-[0-9a-f]{64}", path.name)
        assert path.read_bytes() in (shard(0), shard(IMAGES))
