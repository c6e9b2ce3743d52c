"""Archives, read where they lie: ZIP and tar member by member, a compressed tar through one temporary file.

Nothing is unpacked under a name of the archive's own. Links, and names that lead out of the archive, are refused.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from hmgan.errors import UserError

Wanted = Callable[[str], bool]  # whether the file of this name is of use


class Archive(Protocol):
    """The wanted files of an archive; `read` may be called from several threads."""

    names: list[str]  # in the archive's order

    def read(self, name: str, /) -> bytes: ...

    def close(self) -> None: ...


def open_archive(path: Path, wanted: Wanted) -> Archive:
    """The archive at PATH, or the folder that it was unpacked into; its `close` is the caller's to call.

    Raises: UserError if it is not there, cannot be read to its end, or a wanted file is a link or leads out of it.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give the archive, or the folder that it was unpacked into")
    if path.is_dir():
        return Unpacked(path, wanted)
    if zipfile.is_zipfile(path):
        return Zip(path, wanted)
    if _is_plain_tar(path):
        return Tar(path, wanted)
    return CompressedTar(path, wanted)


class Unpacked:
    """A folder of this machine."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._path = path
        names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        self.names = sorted(filter(wanted, names))

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def close(self) -> None: ...


class Zip:
    """A ZIP; zipfile itself keeps threads apart."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a readable ZIP: {error}; download it again") from error
        found = [info for info in self._zip.infolist() if not info.is_dir() and wanted(info.filename)]
        self.names = list(dict.fromkeys(info.filename for info in found))
        for info in found:
            _check(path, info.filename, not stat.S_ISLNK(info.external_attr >> 16))

    def read(self, name: str) -> bytes:
        return self._zip.read(name)

    def close(self) -> None:
        self._zip.close()


class Tar:
    """A tar without compression."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        with _readable(path), tarfile.open(path, "r:") as tar:
            members = _members(tar, path, wanted)
            self._places = {member.name: (member.offset_data, member.size) for member in members}
            check_end(tar)
        self.names = list(self._places)
        self._file = os.open(path, os.O_RDONLY)

    def read(self, name: str) -> bytes:
        offset, size = self._places[name]
        return os.pread(self._file, size, offset)

    def close(self) -> None:
        os.close(self._file)


class CompressedTar:
    """A .tgz, .tar.bz2 or .tar.xz: read once from end to end, the wanted files copied into a temporary file."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[str, tuple[int, int]] = {}
        try:
            with _readable(path), tarfile.open(path, "r|*") as tar:
                for member in _members(tar, path, wanted):
                    content = tar.extractfile(member)
                    assert content is not None  # of a regular file
                    self._places[member.name] = (self._spool.tell(), member.size)
                    self._spool.write(content.read())
            self._spool.flush()
        except BaseException:
            self.close()
            raise
        self.names = list(self._places)

    def read(self, name: str) -> bytes:
        offset, size = self._places[name]
        return os.pread(self._spool.fileno(), size, offset)

    def close(self) -> None:
        self._spool.close()


def check_end(tar: tarfile.TarFile) -> None:
    """Sees that a tar without compression, read to its end, ended there: tarfile takes a damaged header for the end.

    Raises: tarfile.ReadError.
    """
    file = tar.fileobj
    assert file is not None
    file.seek(tar.offset)
    if any(file.read(tarfile.BLOCKSIZE)):
        raise tarfile.ReadError(f"the header at byte {tar.offset} is damaged")


def _is_plain_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):
            return True
    except (tarfile.TarError, OSError):
        return False


def _members(tar: tarfile.TarFile, path: Path, wanted: Wanted) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members.clear()  # type: ignore[attr-defined]  # it keeps them all otherwise: gigabytes for some millions
        if not member.isdir() and wanted(member.name):
            _check(path, member.name, member.isreg() and member.sparse is None)
            yield member


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; it must be a ZIP, a tar or a compressed tar: download it again"
        ) from error


def _check(path: Path, name: str, regular: bool) -> None:
    if not regular:
        raise UserError(f"{name!r} in {path} is not a regular file but a link or the like; get the archive anew")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise UserError(f"{name!r} in {path} leads out of the archive; get it anew, from its owner")
