from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hmgan.data.store.cache import PARTIAL, DiskCache, locked
from hmgan.errors import UserError


def content(number: int) -> bytes:
    return bytes([number]) * 1000


def name(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


class Downloads:
    """Counts what is downloaded."""

    def __init__(self, folder: Path, limit: int = 3500) -> None:
        self.cache, self.done = DiskCache(folder, limit), []

    def __call__(self, number: int) -> None:
        def write(file) -> None:
            self.done.append(number)
            file.write(content(number))

        self.cache.fetch(name(number), 1000, write)

    def read(self, number: int) -> bytes | None:
        descriptor = self.cache.open(name(number), 1000)
        if descriptor is None:
            return None
        found = os.pread(descriptor, 2000, 0)
        os.close(descriptor)
        return found


@pytest.fixture
def downloads(tmp_path):
    return Downloads(tmp_path / "cache")


def aged(downloads: Downloads) -> None:
    """Every file as if last used a minute earlier than it was."""
    for path in downloads.cache.folder.iterdir():
        status = path.stat()
        os.utime(path, (status.st_atime - 60, status.st_mtime - 60))


def test_a_file_is_downloaded_once(downloads):
    assert downloads.read(1) is None
    for _ in range(2):
        downloads(1)
    assert downloads.read(1) == content(1)
    assert downloads.done == [1]


def test_the_least_recently_used_files_go_first(downloads):
    for number in (1, 2, 3):
        downloads(number)
        aged(downloads)
    downloads.read(1)
    aged(downloads)
    downloads(4)
    assert [downloads.read(number) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]
    size = sum(path.stat().st_size for path in downloads.cache.folder.iterdir())
    assert size <= downloads.cache.limit


def test_a_file_that_is_open_stays_readable_when_it_goes(downloads):
    downloads(1)
    descriptor = downloads.cache.open(name(1), 1000)
    for number in (2, 3, 4, 5):
        aged(downloads)
        downloads(number)
    assert downloads.read(1) is None
    assert os.pread(descriptor, 1000, 0) == content(1)
    os.close(descriptor)


@pytest.mark.parametrize("damage", [lambda f: f[:-1], lambda f: b"x" + f[1:]])
def test_what_the_disk_lost_is_downloaded_again(downloads, damage):
    downloads(1)
    path = downloads.cache.folder / name(1)
    path.write_bytes(damage(path.read_bytes()))
    later = Downloads(downloads.cache.folder)  # another process
    assert later.read(1) is None
    later(1)
    assert later.read(1) == content(1)


def test_bytes_that_others_check_are_not_hashed_and_must_be_as_many(downloads):
    downloads(1)
    path = downloads.cache.folder / name(1)
    for damaged, there in ((b"x" + content(1)[1:], True), (content(1)[1:], False)):
        path.write_bytes(damaged)
        later = DiskCache(downloads.cache.folder, 3500)
        assert (later.open(name(1), 1000, checked=True) is not None) == there
        assert path.exists() == there


def test_a_failed_download_leaves_nothing(downloads):
    def fails(file) -> None:
        file.write(b"half")
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        downloads.cache.fetch(name(1), 1000, fails)
    assert [path.name for path in downloads.cache.folder.iterdir()] == [".room"]


def test_what_a_killed_process_left_makes_room_and_what_a_living_one_writes_stays(downloads):
    downloads.cache.folder.mkdir()
    for number in (8, 9):
        (downloads.cache.folder / (name(number) + PARTIAL)).write_bytes(content(number))
    with open(downloads.cache.folder / (name(9) + PARTIAL), "rb") as living:
        fcntl.flock(living, fcntl.LOCK_EX)
        aged(downloads)
        for number in (1, 2, 3):
            downloads(number)
        left = {path.name.removesuffix(PARTIAL) for path in downloads.cache.folder.glob("*" + PARTIAL)}
        assert left == {name(9)}
        assert downloads.read(1) is None


def test_a_file_larger_than_the_limit_is_refused(tmp_path):
    with pytest.raises(UserError, match="may hold 10 bytes, one file has 1000; raise HMGAN_CACHE_GIB"):
        Downloads(tmp_path, limit=10)(1)


@pytest.mark.parametrize("name", ["../outside", "", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_name_that_is_no_sha256_is_refused_before_anything_is_written(downloads, name):
    with pytest.raises(UserError, match="must be 64 hexadecimal digits"):
        downloads.cache.fetch(name, 1000, lambda file: None)
    with pytest.raises(UserError, match="must be 64 hexadecimal digits"):
        downloads.cache.open(name, 1000)
    assert not downloads.cache.folder.exists()


def test_a_full_disk_is_told(downloads):
    def full(file) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write to the cache .*: No space left on device; make room"):
        downloads.cache.fetch(name(1), 1000, full)


def _ranks_work(folder: Path, log: Path, begin: threading.Barrier) -> None:
    downloads = Downloads(folder, limit=4000)
    begin.wait()
    for turn in range(40):
        number = turn * 7 % 5
        while (found := downloads.read(number)) is None:
            downloads(number)
        assert found == content(number)
    log.write_text(str(len(downloads.done)))


def test_processes_share_a_cache_that_is_too_small_for_them(tmp_path):
    context = multiprocessing.get_context("fork")
    begin = context.Barrier(3)
    logs = [tmp_path / f"log{i}" for i in range(3)]
    processes = [context.Process(target=_ranks_work, args=(tmp_path / "cache", log, begin)) for log in logs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sum(int(log.read_text()) for log in logs) >= 5


def test_a_lock_ends_with_its_holder_though_a_process_that_was_started_meanwhile_has_the_file_open(tmp_path):
    with locked(tmp_path / "file") as file:
        # As a worker that is forked by another thread while this one downloads.
        heir = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[file.fileno()])
    with heir, locked(tmp_path / "file", wait=False):
        assert heir.poll() is None
        heir.communicate(b"\n")


def test_a_forked_process_does_not_unlock_what_its_parent_holds(tmp_path):
    script = f"""
import os, pathlib
from hmgan.data.store.cache import locked
path = pathlib.Path({str(tmp_path / "file")!r})
holding = locked(path)
holding.__enter__()
if (child := os.fork()) == 0:
    holding.__exit__(None, None, None)
    os._exit(0)
os.waitpid(child, 0)
try:
    with locked(path, wait=False):
        print("free")
except BlockingIOError:
    print("held")
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "held\n"
