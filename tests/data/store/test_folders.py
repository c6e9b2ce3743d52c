"""A folder on the disk has the kernel read what will be asked for."""

from __future__ import annotations

import os
import pickle
import time
from types import SimpleNamespace

import psutil
import pytest

from hmgan.data.store.folders import File, LocalFolder


@pytest.fixture
def files(tmp_path):
    found = []
    for i in range(4):
        (tmp_path / f"{i}.tar").write_bytes(bytes(1000))
        found.append(File(name=f"{i}.tar", bytes=1000, sha256="0" * 64))
    return found


@pytest.fixture
def advised(monkeypatch):
    """Names of the files that the kernel was told of."""
    names: list[str] = []

    def advise(descriptor, offset, length, advice):
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_WILLNEED)
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    return names


def settled(names: list[str], count: int) -> list[str]:
    deadline = time.monotonic() + 30
    while len(names) < count and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)  # for what should not come
    return names


def test_this_window_and_the_next_are_read_ahead(tmp_path, files, advised):
    LocalFolder(tmp_path).prefetch([files[:1], files[1:3], files[3:]])
    assert settled(advised, 3) == ["0.tar", "1.tar", "2.tar"]


def test_no_more_is_read_ahead_than_half_of_the_free_memory(tmp_path, files, advised, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5000))
    LocalFolder(tmp_path).prefetch([files])
    assert settled(advised, 2) == ["0.tar", "1.tar"]


def test_a_missing_file_is_told_where_it_is_read_not_ahead(tmp_path, files, advised):
    (tmp_path / "0.tar").unlink()
    LocalFolder(tmp_path).prefetch([files])
    assert settled(advised, 3) == ["1.tar", "2.tar", "3.tar"]


def test_a_spawned_process_gets_a_folder_of_its_own(tmp_path):
    assert pickle.loads(pickle.dumps(LocalFolder(tmp_path))).path == tmp_path
