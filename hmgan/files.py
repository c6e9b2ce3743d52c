"""Files that are either complete or not there, and their hashes."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from itertools import chain, count
from pathlib import Path

from safetensors import SafetensorError

from hmgan.errors import UserError, exhausted

FULL = re.compile(rf"(Errno|os error) ({errno.ENOSPC}|{errno.EDQUOT})\b")
CHUNK = 1 << 22  # bytes that are hashed at a time
# What file names cannot hold on some system.
UNSAFE = re.compile(r'[<>:"/\\|?*]|[^\S ]')
RESERVED = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3])(?![^. ])", re.IGNORECASE
)  # Windows'
LONGEST = 100  # bytes of a name: room for a suffix, and for what `write_atomically` adds
MODE = 0o644  # safetensors and pooch write files that only their owner can read


def cache_folder() -> Path:
    """Where packed registry data sets, shards and features are kept: HMGAN_CACHE, or ~/.cache/hmgan."""
    return Path(os.environ.get("HMGAN_CACHE") or Path.home() / ".cache" / "hmgan")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises UserError where a file cannot be opened though it is there: that says nothing of its bytes."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(path) from None
    except OSError as error:
        check_limits(error)
        raise UserError(f"{path} cannot be read: {error.strerror}; see to the disk and its permissions") from error


def check_limits(error: Exception) -> None:
    """Raises, as what it is, an error that says something of this machine's limits and nothing of what was read."""
    if isinstance(error, MemoryError):
        raise error
    if (line := exhausted(error)) is not None:
        raise UserError(line) from error


def file_names(texts: Iterable[str]) -> dict[str, str]:
    """Text, whatever it is, -> a name of one file on every system, as near to the text as can be.

    No two names are one where case is not told apart. They depend on the texts before them: give all that there are.
    """
    names: dict[str, str] = {}
    taken = set[str]()
    for text in dict.fromkeys(texts):
        stem = file_name(text)
        tries = chain([stem], (f"{stem}-{number}" for number in count(2)))
        names[text] = next(name for name in tries if _as_compared(name) not in taken)
        taken.add(_as_compared(names[text]))
    return names


def file_name(text: str) -> str:
    """The text without what is unsafe, hidden, reserved or too long; `file_names` makes those of several unique."""
    shown = "".join("_" if unicodedata.category(c).startswith("C") else c for c in unicodedata.normalize("NFC", text))
    name = UNSAFE.sub("_", shown).encode()[:LONGEST].decode(errors="ignore").strip(" ").rstrip(".")
    name = re.sub(r"^[.]+", "_", name).rstrip(" .")
    return f"_{name}" if not name or RESERVED.match(name) else name


def _as_compared(name: str) -> str:
    """As file systems do that tell fewer names apart."""
    return unicodedata.normalize("NFKC", name.casefold()).casefold()


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` with a temporary sibling, flushes it to disk and renames it to `path`."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with refused_as(path):
        try:
            write(partial)
            flush(partial)
            os.replace(partial, path)
            sync(path.parent)
        finally:
            with suppress(OSError):  # of a place that cannot be written
                partial.unlink(missing_ok=True)


def add_lines(path: Path, lines: Iterable[str]) -> None:
    """Adds lines to a file in one write, which no signal cuts in two."""
    text = "".join(f"{line}\n" for line in lines)
    with path.open("ab", buffering=0) as file:
        file.write(text.encode())


def write_folder_atomically(folder: Path, write: Callable[[Path], object]) -> None:
    """The same for a folder of files. An existing folder is replaced only once the new one is complete."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with refused_as(folder):
        try:
            partial.mkdir(parents=True)
            write(partial)
            for path in partial.iterdir():
                flush(path)
            put(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def flush(path: Path) -> None:
    """A finished file, readable to all and on the disk."""
    path.chmod(MODE)
    sync(path)


def put(partial: Path, folder: Path) -> None:
    """Renames a folder whose files are flushed; one of that name that is there goes first."""
    sync(partial)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)
    sync(folder.parent)


@contextmanager
def refused_as(path: Path) -> Iterator[None]:
    """Around the writing of `path`: what the system refuses, it refuses of that, and not of a temporary sibling."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = re.search(r"os error (\d+)", str(error))  # safetensors has no error number, only the text of one
        code = error.errno if isinstance(error, OSError) else number and int(number[1])
        named = error.filename if isinstance(error, OSError) else None
        if code is None or (named is not None and f".{path.name}." not in str(named)):
            raise
        raise OSError(code, os.strerror(code), str(path)) from error


@contextmanager
def named_if_full(folder: Path) -> Iterator[None]:
    """Raises UserError where a write fails because the disk is full."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        if FULL.search(str(error)):  # safetensors has no error number, only the text of one
            text = f"no room left for {folder}; checkpoints written before are whole: make room, and --resume"
            raise UserError(text) from error
        raise


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return sha256_of_open(file.fileno())


def sha256_of_open(descriptor: int) -> str:
    """The same of an open file, whose position stays as it is: others may be reading."""
    digest, offset = hashlib.sha256(), 0
    while chunk := os.pread(descriptor, CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flushes a file or folder to disk, so that a rename after it cannot come first."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def launch_file(name: str) -> Path:
    """A file of the package's launch/ folder."""
    return Path(str(resources.files("hmgan.launch_files"))) / name
