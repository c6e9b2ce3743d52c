"""Objects that no index describes, streamed through the cache: the first to read one to its end leaves it there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

from hmgan.data.store.cache import Copy, DiskCache
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
