"""A folder of downloaded files on the local disk, shared by all processes of a machine."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hmgan.errors import UserError
from hmgan.files import readable, sha256_of_open

PARTIAL, ROOM = ".partial", ".room"


class DiskCache:
    """Files named after their sha256, the least recently used dropped first.

    A file appears under its name once it is whole. A process that did not download it verifies its sha256 on first
    opening, so what a disk lost is downloaded again. Only one process at a time downloads a file: its `.partial` is
    locked meanwhile, and the lock ends with the process that holds it.

    Args:
        limit: bytes in all.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._trusted: set[str] = set()

    def open(self, sha256: str, size: int, *, checked: bool = False) -> int | None:
        """A descriptor of the file, or None if it is not here. `checked`: another process has verified its bytes."""
        path = self._path(sha256)
        try:
            with readable(path):
                descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        if sha256 not in self._trusted and not checked:
            if os.fstat(descriptor).st_size != size or sha256_of_open(descriptor) != sha256:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                return None
            self._trusted.add(sha256)
        os.utime(descriptor)
        return descriptor

    def fetch(self, sha256: str, size: int, download: Callable[[BinaryIO], None]) -> None:
        """Brings the file here. `download` writes it and makes sure that it is right.

        Raises: UserError if the file is larger than the limit, or the disk is full.
        """
        path = self._path(sha256)
        if size > self.limit:
            raise UserError(
                f"the cache {self.folder} may hold {self.limit} bytes, one file has {size}; raise HMGAN_CACHE_GIB"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + PARTIAL)
        with locked(partial) as file:
            with suppress(FileNotFoundError):
                os.utime(path)  # another process was faster; the file is in use again
                partial.unlink()
                return
            try:
                self._make_room(file, size)
                download(file)
                file.flush()
                os.replace(partial, path)  # without fsync: the sha256 reveals what a crash of the machine took
                self._trusted.add(sha256)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise UserError(
                    f"cannot write to the cache {self.folder}: {error.strerror}; make room there"
                ) from error
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def _path(self, sha256: str) -> Path:
        # It comes from an index that anybody may have written, and must not lead out of the cache.
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UserError(f"a sha256 must be 64 hexadecimal digits, got {sha256[:80]!r}; the index is damaged")
        return self.folder / sha256

    def _make_room(self, file: BinaryIO, size: int) -> None:
        """Drops old files until `size` more bytes fit, and reserves them in `file`."""
        with locked(self.folder / ROOM):
            os.ftruncate(file.fileno(), 0)
            found = sorted(_files(self.folder))
            total = sum(bytes_ for _, bytes_, _ in found) + size
            for _, bytes_, path in found:
                if total <= self.limit:
                    break
                if path.suffix != PARTIAL or _abandoned(path):
                    path.unlink(missing_ok=True)
                    total -= bytes_
            os.ftruncate(file.fileno(), size)


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each file."""
    for path in folder.iterdir():
        if path.name != ROOM:
            with suppress(FileNotFoundError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path


def _abandoned(partial: Path) -> bool:
    """Whether the process that wrote it is gone: locks do not outlive their holder."""
    try:
        with open(partial, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file, open for writing and locked."""
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                mine = os.fstat(file.fileno()).st_ino == os.stat(path).st_ino
            except FileNotFoundError:
                mine = False
            if mine:  # and not renamed or dropped while this process waited
                yield file
                return
