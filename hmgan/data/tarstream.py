"""The samples of WebDataset shards one after the other, through webdataset's own reader: no index, no random access."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, cast

from webdataset.tariterators import group_by_keys, tar_file_expander

from hmgan.data.pack.image_folders import EXTENSIONS
from hmgan.data.store.stores import BLOCK, MissingError, Store, open_store
from hmgan.errors import UserError
from hmgan.urls import is_url

LABEL = "cls"
EMPTY = bytes(512)  # a tar ends in blocks without content


class Sample:
    """An image, with its label as the shard has it; `name` is for messages.

    Raises: UserError, with the shard and the key, for a sample that lacks an image or a label or has several images:
        a shard that was cut or put together wrongly gives such, and the reader itself passes them on.
    """

    def __init__(self, fields: dict[str, Any], labelled: bool) -> None:
        self.name = f"sample {fields['__key__']} in shard {fields['__url__']}"
        images = [key for key in fields if f".{key.rpartition('.')[2]}" in EXTENSIONS]
        found = ", ".join(key for key in fields if not key.startswith("__")) or "nothing"
        if len(images) != 1 or (labelled and LABEL not in fields):
            wanted = f"one image and a .{LABEL}" if labelled else "one image"
            raise UserError(f"{self.name} is partial: it must have {wanted}, got {found}; make that shard again")
        self.image: bytes = fields[images[0]]
        self.label = fields[LABEL].decode(errors="replace").strip() if labelled else ""


def shards_in(place: str) -> list[str]:
    """Paths or URLs of the shards in a folder, sorted. Raises UserError if there are none."""
    place = place.removeprefix("file://")
    if is_url(place):
        store = open_store(place)
        found = [f"{store.url}/{name}" for name in store.names() if name.endswith(".tar")]
    else:
        found = [str(path) for path in sorted(Path(place).glob("*.tar"))]
    if not found:
        raise UserError(f"{place} holds no .tar shards; give the folder that they lie in")
    return found


def samples(shards: Iterable[str], labelled: bool) -> Iterator[Sample]:
    """Those of the shards in their order.

    Raises: UserError for a sample that is not whole, and a shard that is missing, cut off or no tar.
    """
    expanded = tar_file_expander(_opened(shards))
    try:
        for fields in group_by_keys(expanded):
            yield Sample(fields, labelled)
    except UserError:
        raise
    except Exception as error:  # whatever tarfile and the reader raise, with the stream and the shard behind it
        where = next((str(part) for part in reversed(error.args) if isinstance(part, str)), "a shard")
        reason = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        raise UserError(f"shard {where} cannot be read: {reason}; copy it again") from error


def _opened(shards: Iterable[str]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        with closing(_open(shard)) as file:
            stream = _Watched(file)
            yield {"url": shard, "stream": stream}
            # The reader takes a damaged or a missing header for the end.
            if not stream.ends():
                raise UserError(f"shard {shard} is cut off or damaged: it does not end as a tar does; copy it again")


def _open(shard: str) -> BinaryIO:
    if is_url(shard):
        folder, _, name = shard.rpartition("/")
        return cast(BinaryIO, io.BufferedReader(_Remote(open_store(folder), name), BLOCK))
    try:
        return open(shard, "rb")
    except OSError as error:
        raise UserError(f"cannot open shard {shard}: {error.strerror}; restore it") from error


class _Watched:
    """A stream that hands out block by block, so that the reader has seen no more than what it has asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._last = file, b""

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(len(EMPTY))
        self._last = block or self._last
        return block

    def ends(self) -> bool:
        """Whether an empty block was the last that was read, and nothing else is left."""
        left = iter(lambda: self._file.read(BLOCK), b"")
        return self._last == EMPTY and not any(part.strip(b"\0") for part in left)


class _Remote(io.RawIOBase):
    """An object, read from its beginning to its end in Range requests; the store heals what breaks."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name, self._at = store, name, 0
        try:
            self._size = store.size(name)
        except MissingError:
            raise UserError(f"{store.url}/{name} is missing; upload that shard again") from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        content = self._store.get(self._name, self._at, end) if end > self._at else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
