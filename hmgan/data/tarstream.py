"""The samples of WebDataset shards one after the other, through webdataset's own reader."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any

from webdataset.tariterators import group_by_keys, tar_file_expander

from hmgan.data.filenames import EXTENSIONS, ends_in, is_litter, tars
from hmgan.data.store.cache import DiskCache
from hmgan.data.store.stores import BLOCK, Content, MissingError, open_store
from hmgan.data.store.through import blocks_through
from hmgan.errors import UserError
from hmgan.files import readable
from hmgan.urls import is_url

LABEL = "cls"


class Sample:
    """An image, with its label as the shard has it; `name` is for messages.

    Raises: UserError, with the shard and the key, for a sample that lacks an image or a label or has several images.
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
        found = [f"{store.url}/{name}" for name in store.names() if ends_in(name, ".tar")]
    else:
        found = [str(path) for path in tars(Path(place))]
    if not found:
        raise UserError(f"{place} holds no .tar shards; give the folder that they lie in")
    return found


def samples(shards: Iterable[str], labelled: bool, cache: DiskCache) -> Iterator[Sample]:
    """The shards' samples in their order; what a store has of them is read through the cache.

    Raises: UserError for a partial sample, and a shard that is missing, cut off or no tar.
    """
    try:
        with closing(_opened(shards, cache)) as opened:  # at once: an error would hold it open
            expanded = tar_file_expander(opened, select_files=lambda name: not is_litter(name))
            for fields in group_by_keys(expanded):
                yield Sample(fields, labelled)
    except Exception as error:  # whatever is raised, with the stream and the shard that the reader adds to it
        where = next((str(part) for part in reversed(error.args) if isinstance(part, str)), "a shard")
        reason = str(error.args[0]).partition(" @ ")[0] if error.args else type(error).__name__
        if isinstance(error, UserError):
            raise UserError(reason) from None
        raise UserError(f"shard {where} cannot be read: {reason}; copy it again") from error


def _opened(shards: Iterable[str], cache: DiskCache) -> Generator[dict[str, Any]]:
    for shard in shards:
        with _chunks(shard, cache) as chunks:
            stream = _Watched(chunks)
            yield {"url": shard, "stream": stream}
            # The reader takes a damaged or a missing header for the end.
            if not stream.ends():
                raise UserError(f"shard {shard} is cut off or damaged: it does not end as a tar does; copy it again")


@contextmanager
def _chunks(shard: str, cache: DiskCache) -> Iterator[Iterator[Content]]:
    """The bytes of a shard from its beginning to its end; a store heals what breaks."""
    if is_url(shard):
        folder, _, name = shard.rpartition("/")
        with ExitStack() as opened:
            try:
                chunks = opened.enter_context(blocks_through(cache, open_store(folder), name))
            except MissingError:
                raise UserError(f"{shard} is missing; upload that shard again") from None
            yield chunks
        return
    with ExitStack() as opened:
        try:
            with readable(Path(shard)):
                file = opened.enter_context(open(shard, "rb"))
        except FileNotFoundError as error:
            raise UserError(f"cannot open shard {shard}: it is missing; restore it") from error
        yield iter(partial(file.read, BLOCK), b"")


class _Watched:
    """A stream that hands out one tar block at a time, so that the reader has seen no more than it asked for."""

    def __init__(self, chunks: Iterable[Content]) -> None:
        self._blocks = (bytes(chunk[at : at + BLOCKSIZE]) for chunk in chunks for at in range(0, len(chunk), BLOCKSIZE))
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        block = next(self._blocks, b"")
        self._last = block or self._last
        return block

    def ends(self) -> bool:
        """Whether an empty block was the last that was read, and nothing else is left."""
        return self._last == bytes(BLOCKSIZE) and not any(block.strip(b"\0") for block in self._blocks)
