"""Where the files of a packed set are: on a disk, or in an object store with a cache on the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import psutil

from hmgan.data.store.cache import DiskCache
from hmgan.data.store.prefetch import Prefetch
from hmgan.data.store.stores import MissingError, Store, open_store
from hmgan.errors import DamageError, UserError
from hmgan.files import cache_folder, readable
from hmgan.urls import is_url

DOWNLOADS = 3  # of a file whose checksum is wrong
THREADS = 6  # that read ahead
CACHE_GIB = 32.0
AGAIN = "pack the data again with `hmgan pack`"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as the index knows it."""

    name: str
    bytes: int
    sha256: str
    by_parts: bool = False  # its reader checks every part that it reads, so the whole needs no check before


class Folder(Protocol):
    """The files of one packed set. `str(folder)` is how a user knows it."""

    cached: bool  # whether the files take room in the cache

    # Both raise FileNotFoundError, and UserError for whatever else keeps them from it.
    def size(self, name: str) -> int: ...
    def read(self, name: str) -> bytes: ...

    def open(self, file: File, /) -> int:
        """A descriptor for `os.pread`, the caller's to close. Raises DamageError."""

    def check(self, files: Iterable[File], /) -> None:
        """Checks that the files are there, as far as that is cheap. Raises DamageError."""

    def prefetch(self, windows: Sequence[Sequence[File]], beside: int = 0, /) -> None:
        """Prefetches files, window by window; `beside` are the bytes that others keep in the same cache."""

    def fetch(self, file: File, /) -> None:
        """Fetches the file, for processes that cannot do it themselves."""

    def renew(self, file: File, tries: int, /) -> bool:
        """Has the next opening of a file with a wrong part download it anew.

        Returns False after so many tries that it cannot help, and where nothing is downloaded.
        """


class LocalFolder:
    """A folder of this machine."""

    cached = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefetch: Prefetch[File] = Prefetch(self._into_memory, 1)

    def __str__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFolder, (self.path,)  # a spawned process has threads of its own

    def size(self, name: str) -> int:
        with readable(self.path / name):
            return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        with readable(self.path / name):
            return (self.path / name).read_bytes()

    def open(self, file: File) -> int:
        path = self.path / file.name
        try:
            with readable(path):
                return os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise DamageError(f"cannot open shard {path}: it is missing; restore it") from error

    def check(self, files: Iterable[File]) -> None:
        for file in files:
            path = self.path / file.name
            if not path.is_file():
                raise DamageError(f"{self} is incomplete: shard {file.name} is missing; copy it there, or {AGAIN}")
            if (size := path.stat().st_size) != file.bytes:
                raise DamageError(f"shard {path} must be {file.bytes} bytes, got {size}; copy it again, or {AGAIN}")

    def prefetch(self, windows: Sequence[Sequence[File]], beside: int = 0) -> None:
        """Has the kernel read the shards of two windows from end to end, as far as memory is free.

        Images are read in a shuffled order, which is slow on a cold disk.
        """
        room = psutil.virtual_memory().available // 2
        wanted = []
        for file in chain.from_iterable(windows[:2]):
            room -= file.bytes
            if room < 0:
                break
            wanted.append(file)
        self._prefetch.want(wanted)

    def _into_memory(self, file: File) -> None:
        descriptor = self.open(file)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)

    def fetch(self, file: File) -> None: ...

    def renew(self, file: File, tries: int) -> bool:
        return False


class RemoteFolder:
    """A folder in an object store. Its files are downloaded whole into the cache, and read there.

    Only the process that made it downloads: a forked worker, without the client's threads and connections, reads what
    is in the cache.
    """

    cached = True

    def __init__(self, store: Store, cache: DiskCache) -> None:
        self._store, self._cache = store, cache
        self._owner = os.getpid()
        self._damaged: dict[str, DamageError] = {}  # so that none is downloaded again
        self._prefetch: Prefetch[File] = Prefetch(self._have, THREADS)

    def __str__(self) -> str:
        return self._store.url

    def __reduce__(self) -> tuple[Any, ...]:
        return open_folder, (self._store.url,)  # a spawned process has a client of its own

    def size(self, name: str) -> int:
        try:
            return self._store.size(name)
        except MissingError:
            raise FileNotFoundError(f"{self}/{name}") from None

    def read(self, name: str) -> bytes:
        return bytes(self._store.get(name, 0, self.size(name)))

    def open(self, file: File) -> int:
        # A worker reads shards that its owner has verified. To hash those, or what a reader checks, costs a download.
        checked = file.by_parts or os.getpid() != self._owner
        for _ in range(DOWNLOADS):
            if (descriptor := self._cache.open(file.sha256, file.bytes, checked=checked)) is not None:
                return descriptor
            self.fetch(file)
        raise UserError(f"{self}/{file.name} does not stay whole in the cache {self._cache.folder}; check that disk")

    def check(self, files: Iterable[File]) -> None:
        """Does nothing: a request per shard takes long and costs money. They are checked when they are read."""

    def prefetch(self, windows: Sequence[Sequence[File]], beside: int = 0) -> None:
        """The first window must fit into the cache; the others are prefetched as far as they fit whole."""
        wanted: list[File] = []
        for number, window in enumerate(windows):
            total = beside + sum(file.bytes for file in {file.name: file for file in (*wanted, *window)}.values())
            if total > self._cache.limit:
                if number == 0:
                    raise UserError(
                        f"the cache {self._cache.folder} may hold {self._cache.limit / 2**30:.3g} GiB and the images "
                        f"that are mixed with each other need {total / 2**30:.3g}; set HMGAN_CACHE_GIB to twice that"
                    )
                break
            wanted += window
        self._prefetch.want(wanted)

    def fetch(self, file: File) -> None:
        if os.getpid() != self._owner:
            raise UserError(f"{self}/{file.name} is not in the cache of this machine; open the data in this process")
        if file.name in self._damaged:
            raise self._damaged[file.name]
        self._have(file)

    def renew(self, file: File, tries: int) -> bool:
        if os.getpid() != self._owner or tries >= DOWNLOADS:
            return False
        self._cache.drop(file.sha256)
        return True

    def _have(self, file: File) -> None:
        try:
            self._cache.fetch(file.sha256, file.bytes, partial(self._download, file))
        except DamageError as error:
            self._damaged[file.name] = error
            raise

    def _download(self, file: File, target: BinaryIO) -> None:
        try:
            size = self._store.size(file.name)
        except MissingError:
            raise DamageError(f"{self}/{file.name} is missing; upload that shard again, or {AGAIN}") from None
        if size != file.bytes:
            raise DamageError(
                f"{self}/{file.name} must be {file.bytes} bytes, got {size}: it ends at byte {size}; "
                f"upload that shard again, or {AGAIN}"
            )
        if all(self._copy(file, target) != file.sha256 for _ in range(DOWNLOADS)):
            raise DamageError(
                f"{self}/{file.name} has not the sha256 that the index says, {DOWNLOADS} times over; "
                "upload that shard again, or the index that belongs to it"
            )

    def _copy(self, file: File, target: BinaryIO) -> str:
        """Downloads block by block; a block that breaks is asked for again, those before it are kept.

        Returns the sha256, computed unless the parts are checked.
        """
        digest = hashlib.sha256()
        target.seek(0)
        try:
            for block in self._store.blocks(file.name, file.bytes):
                if not file.by_parts:
                    digest.update(block)
                target.write(block)
        except MissingError:
            at = target.tell()
            raise DamageError(f"{self}/{file.name} vanished at byte {at}; upload that shard again") from None
        return file.sha256 if file.by_parts else digest.hexdigest()


def open_folder(place: str | Path) -> Folder:
    """The folder at a path or URL.

    Raises: UserError for a path that is no folder, or a URL that cannot be read here.
    """
    name = str(place).removeprefix("file://")
    if is_url(name):
        return RemoteFolder(open_store(name), shard_cache())
    if Path(name).is_file():
        raise UserError(f"{name} is not a packed data set but a file; run `hmgan pack {name} DST` and give DST")
    if not Path(name).is_dir():
        todo = f"run `hmgan pack SRC {name}` first, or give --data where it lies now"
        raise UserError(f"{name} is not a packed data set: no such folder; {todo}")
    return LocalFolder(Path(name))


def shard_cache() -> DiskCache:
    """Where the shards of stores are kept on this machine. Raises UserError as `cache_limit` does."""
    return DiskCache(cache_folder() / "shards", cache_limit())


def cache_limit() -> int:
    """Bytes that the cache of this machine may hold. Raises UserError for a setting that is no number."""
    text = os.environ.get("HMGAN_CACHE_GIB") or str(CACHE_GIB)
    try:
        gib = float(text)
    except ValueError:
        gib = 0.0
    if not gib > 0:
        raise UserError(f"HMGAN_CACHE_GIB must be a number of GiB more than 0, got {text!r}")
    return int(gib * 2**30)
