"""Where packed shards go: a folder of this machine that is whole or absent, or an object store."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from hmgan.data.index import Index, Shard
from hmgan.data.index_files import ARRAYS, JSON, upload_index, write_index
from hmgan.data.store.folders import Folder, LocalFolder, open_folder
from hmgan.data.store.stores import MissingError, Store, open_store
from hmgan.errors import UserError
from hmgan.files import cache_folder, sha256_of, sync
from hmgan.urls import checked, is_url

JOURNAL = "journal.jsonl"


class Destination(Protocol):
    """Shards are written into `work`, a folder of this machine; `keep` leaves them there or uploads them."""

    work: Path
    folder: Folder  # of the finished set

    def keep(self, shard: Shard, /) -> None: ...
    def has(self, shard: Shard, /) -> bool: ...
    def finish(self, index: Index, beside: Mapping[str, bytes], /) -> None: ...
    def give_up(self) -> None: ...


class LocalDestination:
    """Shards gather in a hidden folder beside OUT, which is renamed to OUT at the end."""

    def __init__(self, out: Path) -> None:
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UserError(f"{out} exists already and holds files; choose a new folder")
        self._out = out
        self.work = out.resolve().with_name(f".{out.resolve().name}.packing")
        self.folder: Folder = LocalFolder(out)

    def keep(self, shard: Shard) -> None:
        sync(self.work / shard.name)

    def has(self, shard: Shard) -> bool:
        path = self.work / shard.name
        return path.is_file() and sha256_of(path) == shard.sha256

    def finish(self, index: Index, beside: Mapping[str, bytes]) -> None:
        write_index(index, self.work, beside)
        names = {JSON, ARRAYS, *beside, *(shard.name for shard in index.shards)}
        for path in self.work.iterdir():
            if path.name not in names:
                path.unlink()
        sync(self.work)
        os.replace(self.work, self._out)
        sync(self._out.resolve().parent)

    def give_up(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)


class RemoteDestination:
    """Shards are uploaded one by one, the index last: until then there is no data set at the URL."""

    def __init__(self, url: str) -> None:
        self._store: Store = open_store(url)
        self.work = cache_folder() / "packing" / hashlib.sha256(url.encode()).hexdigest()[:16]
        with suppress(MissingError):
            self._store.size(JSON)
            raise UserError(f"{url} holds a packed data set already; choose another URL")
        self.folder = open_folder(url)

    def keep(self, shard: Shard) -> None:
        path = self.work / shard.name
        self._store.put(shard.name, path.read_bytes())
        path.unlink()

    def has(self, shard: Shard) -> bool:
        try:
            if self._store.size(shard.name) != shard.bytes:
                return False
            digest = hashlib.sha256()
            for block in self._store.blocks(shard.name, shard.bytes):
                digest.update(block)
        except MissingError:
            return False
        return digest.hexdigest() == shard.sha256

    def finish(self, index: Index, beside: Mapping[str, bytes]) -> None:
        upload_index(index, self._store, beside)
        shutil.rmtree(self.work)

    def give_up(self) -> None:
        """What is uploaded stays, and its journal: the next try is resumed from there."""


class Journal:
    """What is finished, a line per shard, so that a packing that was killed can be resumed.

    Args:
        plan: identifies the names of the images and the options; a journal of another plan is dropped.
        unchanged: whether the images of a line still have the contents that they were packed with.
    """

    def __init__(
        self, file: BinaryIO, plan: str, destination: Destination, unchanged: Callable[[dict[str, Any]], bool]
    ) -> None:
        self._file, self._destination = file, destination
        self.lines: list[dict[str, Any]] = []
        file.seek(0)
        kept = file.read().split(b"\n")[:-1]  # what follows the last line's end was being written
        if kept and json.loads(kept[0]) == {"plan": plan}:
            for line in map(json.loads, kept[1:]):
                if not (destination.has(Shard(**line["shard"])) and unchanged(line)):
                    break
                self.lines.append(line)
        file.truncate(0)
        for line in ({"plan": plan}, *self.lines):
            self._write(line)

    def add(self, shard: Shard, **facts: Any) -> None:
        """Adds a finished shard, and what is needed to resume after it."""
        self._destination.keep(shard)
        self.lines.append({"shard": asdict(shard), **facts})
        self._write(self.lines[-1])

    @property
    def damaged(self) -> list[tuple[str, str]]:
        """Images that cannot be read, each with why."""
        return [pair for line in self.lines for pair in line["damaged"].items()]

    def _write(self, line: dict[str, Any]) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def open_destination(out: str | Path) -> Iterator[tuple[Destination, BinaryIO]]:
    """The destination and its journal's file, locked for this process.

    An error drops what is in a local folder; a kill or Ctrl-C leaves it, to be resumed.
    """
    name = str(out).removeprefix("file://")
    target: Destination = RemoteDestination(checked(name)) if is_url(name) else LocalDestination(Path(name))
    target.work.mkdir(parents=True, exist_ok=True)
    with open(target.work / JOURNAL, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{out} is being packed by another process; wait for it or choose another folder") from None
        try:
            yield target, file
        except Exception:
            target.give_up()
            raise
