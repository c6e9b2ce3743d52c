"""Zips as torch.save writes them: every entry stored, under one root. An entry is a slice of the file.

Nothing is unpacked, so that nothing can be a compression bomb, and no entry is larger than the bytes that are there.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from hmgan.importers.pickled.nodes import UnreadableError

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
END64, LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
LOCAL_SIZE, CENTRAL_SIZE, END_SIZE, LOCATOR_SIZE = 30, 46, 22, 20
MOST_ENTRIES = 100_000
LONGEST_NAME = 1_024
FULL16, FULL32 = 0xFFFF, 0xFFFFFFFF


class Directory(NamedTuple):
    """Where the list of entries lies."""

    entries: int
    start: int
    end: int


def read_archive(data: memoryview) -> dict[str, memoryview]:
    """Entries by their names under the one root. Raises UnreadableError for anything that torch.save does not write."""
    directory = find_directory(data)
    entries: dict[str, memoryview] = {}
    roots, at = set[str](), directory.start
    for _ in range(directory.entries):
        name, content, at = entry_at(data, at, directory)
        root, slash, inner = name.partition("/")
        roots.add(root)
        if not slash or len(roots) > 1 or inner in entries:
            raise UnreadableError(
                "is a zip, but not one that torch.save wrote: entries are double, or have no one root"
            )
        entries[inner] = content
    return entries


def find_directory(data: memoryview) -> Directory:
    """The list of entries, from the record at the file's end."""
    tail = bytes(data[-(END_SIZE + FULL16) :])
    found = tail.rfind(END)
    if found < 0 or found + END_SIZE > len(tail):
        raise UnreadableError("is a zip that is cut short")
    end = len(data) - len(tail) + found
    _, _, _, count, size, start = struct.unpack_from("<4HII", data, end + 4)
    if count == FULL16 or size == FULL32 or start == FULL32:
        count, size, start, end = _directory64(data, end)
    if start + size > end or count > min(MOST_ENTRIES, size // CENTRAL_SIZE):
        raise UnreadableError("is a zip whose list of entries is damaged")
    return Directory(count, start, start + size)


def _directory64(data: memoryview, end: int) -> tuple[int, int, int, int]:
    at = end - LOCATOR_SIZE
    if at < 0 or data[at : at + 4] != LOCATOR64:
        raise UnreadableError("is a zip whose list of entries is damaged")
    (record,) = struct.unpack_from("<Q", data, at + 8)
    if record + 56 > at or data[record : record + 4] != END64:
        raise UnreadableError("is a zip whose list of entries is damaged")
    count, size, start = struct.unpack_from("<QQQ", data, record + 32)
    return count, size, start, record


def entry_at(data: memoryview, at: int, directory: Directory) -> tuple[str, memoryview, int]:
    """An entry's name and content, and where the next one is listed."""
    if at + CENTRAL_SIZE > directory.end or data[at : at + 4] != CENTRAL:
        raise UnreadableError("is a zip whose list of entries is damaged")
    flags, method = struct.unpack_from("<HH", data, at + 8)
    packed, size, name_size, extra_size, comment_size = struct.unpack_from("<IIHHH", data, at + 20)
    (local,) = struct.unpack_from("<I", data, at + 42)
    extra, after = at + CENTRAL_SIZE + name_size, at + CENTRAL_SIZE + name_size + extra_size + comment_size
    if after > directory.end or name_size > LONGEST_NAME:
        raise UnreadableError("is a zip whose list of entries is damaged")
    name = bytes(data[at + CENTRAL_SIZE : extra]).decode(errors="replace")
    if FULL32 in (packed, size, local):
        size, packed, local = _wide(data[extra : extra + extra_size], size, packed, local)
    if flags & 1 or method or packed != size:
        raise UnreadableError("is a zip with compressed or encrypted entries, which torch.save does not write")
    if local + LOCAL_SIZE > directory.start or data[local : local + 4] != LOCAL:
        raise UnreadableError("is a zip with an entry that is not there")
    start = local + LOCAL_SIZE + sum(struct.unpack_from("<HH", data, local + 26))
    if start + size > directory.start:
        raise UnreadableError("is a zip with an entry that is larger than the file")
    return name, data[start : start + size], after


def _wide(extra: memoryview, *fields: int) -> list[int]:
    """The 64-bit values of those of an entry's numbers that have no room in 32, from its extra field."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            missing = sum(value == FULL32 for value in fields)
            if 8 * missing > min(size, len(extra) - at - 4):
                break
            wide = iter(struct.unpack_from(f"<{missing}Q", extra, at + 4))
            return [next(wide) if value == FULL32 else value for value in fields]
        at += 4 + size
    raise UnreadableError("is a zip whose list of entries is damaged")
