"""Objects that no index describes, streamed through the cache: the first to read one to its end leaves it there."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import BinaryIO

from hmgan.data.store.cache import PARTIAL, DiskCache, locked
from hmgan.data.store.stores import BLOCK, Content, MissingError, Store


@contextmanager
def blocks_through(cache: DiskCache, store: Store, name: str) -> Iterator[Iterator[Content]]:
    """All bytes of an object, from the store or, where its URL, size and version are those of a copy, from the cache.

    A copy is kept once all bytes have passed, the `with` ends without an error, and the object is still the same.

    Raises: MissingError, and UserError as the store does.
    """
    head = store.head(name)
    if head.version is None:
        cache.tell(f"{store.url} tells no versions of its files, so the cache keeps none: every pass reads all anew")
        yield store.blocks(name, head.size)
        return
    key = hashlib.sha256(json.dumps([store.url, name, *head]).encode()).hexdigest()
    if (descriptor := cache.open_copy(key, head.size)) is not None:
        with os.fdopen(descriptor, "rb") as file:
            yield iter(partial(file.read, BLOCK), b"")
        return
    with Copy(cache, key, head.size) as copy:
        yield map(copy.take, store.blocks(name, head.size))
        with suppress(MissingError):
            if store.head(name) == head:
                copy.keep()


class Copy:
    """A file of a cache, written while its bytes pass on their way to a reader who does not need it.

    So what the disk refuses ends the copy, is told once, and stops nobody. A context, which leaves nothing behind
    without `keep`. Of several who copy the same at once, the first does.
    """

    def __init__(self, cache: DiskCache, key: str, size: int) -> None:
        self._cache, self._key, self._size = cache, key, size
        self._partial, self._digest = cache.folder / (key + PARTIAL), hashlib.sha256()
        self._lock = ExitStack()
        self._file: BinaryIO | None = None
        if size > cache.limit:
            cache.tell(f"the cache {cache.folder} keeps no file larger than {cache.limit} bytes; raise HMGAN_CACHE_GIB")
            return
        with self._refusable():
            cache.folder.mkdir(parents=True, exist_ok=True)
            self._file = self._lock.enter_context(locked(self._partial, wait=False))
            atexit.register(self._drop)  # a reader that is still there when the process ends is not closed
            if not cache.make_room(self._file, size, needed=False):
                self._drop()

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()

    def take(self, content: Content) -> Content:
        """Copies the next bytes, and passes them on."""
        if self._file is not None:
            with self._refusable():
                left = memoryview(content)
                while left:  # past the file's buffer, which would be written once more when it is closed
                    left = left[os.write(self._file.fileno(), left) :]
                self._digest.update(content)
        return content

    def keep(self) -> None:
        """Has the copy appear, if it is whole."""
        if self._file is not None and os.lseek(self._file.fileno(), 0, os.SEEK_CUR) == self._size:
            with self._refusable():
                sha256 = self._digest.hexdigest()
                os.replace(self._partial, self._cache.folder / f"{self._key}-{sha256}")
                self._cache.trust(sha256)
                self._file = None

    def _drop(self) -> None:
        if self._file is not None:
            self._file = None
            with suppress(OSError):  # it is dropped when room is needed
                self._partial.unlink()
        self._lock.close()
        atexit.unregister(self._drop)

    @contextmanager
    def _refusable(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # another process copies it
            self._drop()
        except OSError as error:
            self._drop()
            self._cache.tell(
                f"cannot write to the cache {self._cache.folder}: {error.strerror}; make room there, "
                "until then what is not in it is read from the store at every pass"
            )
