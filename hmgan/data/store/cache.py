"""A folder of downloaded files on the local disk, shared by all processes of a machine."""

from __future__ import annotations

import fcntl
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hmgan.errors import UserError
from hmgan.files import readable, sha256_of_open

PARTIAL, ROOM = ".partial", ".room"


class DiskCache:
    """Files named after their sha256, the least recently used dropped first.

    Where only a read of all bytes tells the sha256, a key that is known before it stands in front: see `through.Copy`.

    A file appears under its name once it is whole. A process that did not download it verifies its sha256 on first
    opening, so what a disk lost is downloaded again; its size alone where the reader checks what it reads. Only one
    process at a time downloads a file: its `.partial` is locked meanwhile, and the lock ends with the process that
    holds it.

    Args:
        limit: bytes in all.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._trusted: set[str] = set()
        self._told: set[str] = set()

    def open(self, sha256: str, size: int, *, checked: bool = False) -> int | None:
        """A descriptor of the file, or None if it is not here. `checked`: others check its bytes, or have."""
        return self._opened(self._path(sha256), sha256, size, checked)

    def open_copy(self, key: str, size: int) -> int | None:
        """The same of what a `Copy` kept under a key."""
        for path in self.folder.glob(f"{key}-*"):
            if (descriptor := self._opened(path, path.name.removeprefix(f"{key}-"), size, False)) is not None:
                return descriptor
        return None

    def _opened(self, path: Path, sha256: str, size: int, checked: bool) -> int | None:
        try:
            with readable(path):
                descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        known = checked or sha256 in self._trusted
        if os.fstat(descriptor).st_size != size or not (known or sha256_of_open(descriptor) == sha256):
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            return None
        if not checked:
            self.trust(sha256)
        with suppress(OSError):  # of a cache that this user may only read
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
                self.make_room(file, size)
                download(file)
                file.flush()
                os.replace(partial, path)  # without fsync: the sha256 reveals what a crash of the machine took
                self.trust(sha256)
            except OSError as error:
                partial.unlink(missing_ok=True)
                raise UserError(
                    f"cannot write to the cache {self.folder}: {error.strerror}; make room there"
                ) from error
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def drop(self, sha256: str) -> None:
        """Drops a file that is wrong; who has it open reads on."""
        with suppress(OSError):
            self._path(sha256).unlink()

    def _path(self, sha256: str) -> Path:
        # It comes from an index that anybody may have written, and must not lead out of the cache.
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UserError(f"a sha256 must be 64 hexadecimal digits, got {sha256[:80]!r}; the index is damaged")
        return self.folder / sha256

    def trust(self, sha256: str) -> None:
        """Takes a file for right without another look at its bytes: this process wrote them."""
        self._trusted.add(sha256)

    def tell(self, line: str) -> None:
        """Tells something of the cache on stderr, once."""
        if line not in self._told:
            self._told.add(line)
            sys.stderr.write(f"{line}\n")

    def make_room(self, file: BinaryIO, size: int, *, needed: bool = True) -> bool:
        """Drops old files until `size` more bytes fit, and reserves them in `file`.

        Returns whether they do. They may not, since what others are writing stays: then all else is dropped for bytes
        that are needed, and nothing for others.
        """
        with locked(self.folder / ROOM):
            os.ftruncate(file.fileno(), 0)
            found = sorted(_files(self.folder))
            total, old = sum(bytes_ for _, bytes_, _ in found) + size, list[Path]()
            for _, bytes_, path in found:
                if total <= self.limit:
                    break
                if path.suffix != PARTIAL or _abandoned(path):
                    old.append(path)
                    total -= bytes_
            fits = total <= self.limit
            if fits or needed:
                for path in old:
                    path.unlink(missing_ok=True)
                os.ftruncate(file.fileno(), size)
            return fits


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
            fcntl.flock(file, fcntl.LOCK_UN)  # as in `locked`
            return True
    except (BlockingIOError, FileNotFoundError):
        return False


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[BinaryIO]:
    """The file, open for writing and locked. Raises BlockingIOError if another has it and `wait` is False.

    It is unlocked, and not only closed: a process that another thread forks meanwhile, such as a loader's worker, has
    the file open, too, and would keep the lock as long as it lives. Only the process that locked it unlocks it.
    """
    owner = os.getpid()
    while True:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            try:
                if _is_at(path, file):  # and not renamed or dropped while this process waited
                    yield file
                    return
            finally:
                if os.getpid() == owner:
                    fcntl.flock(file, fcntl.LOCK_UN)


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino == os.stat(path).st_ino
    except FileNotFoundError:
        return False
