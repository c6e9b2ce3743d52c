"""Archives, read where they lie: ZIP and tar member by member, a compressed tar through one temporary file.

Nothing is unpacked under the archive's own names. Links, and names that lead out of the archive, are refused.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from hmgan.data.filenames import check_once, slashed
from hmgan.errors import UserError
from hmgan.files import check_limits

# What the readers of archives raise; a compression that they do not know is a RuntimeError.
READERS = (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, RuntimeError)
ENCRYPTED = 1  # of a ZIP member's flags
Wanted = Callable[[str], bool]  # whether the file of this name is of use


@dataclass(frozen=True)
class Archive:
    """The wanted files of an archive, in its own order; `read` may be called from several threads."""

    names: list[str]
    read: Callable[[str], bytes]
    close: Callable[[], object] = lambda: None


def open_archive(path: Path, wanted: Wanted) -> Archive:
    """Opens the archive at a path, or the folder that it was unpacked into; the caller closes it.

    Raises: UserError if it is not there, cannot be read to its end, or a wanted file is a link or leads out of it.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give the archive, or the folder that it was unpacked into")
    if path.is_dir():
        return Archive(list(filter(wanted, files_below(path))), lambda name: (path / name).read_bytes())
    if zipfile.is_zipfile(path):
        return open_zip(path, wanted)
    return _tar(path, wanted) if _is_plain_tar(path) else _compressed_tar(path, wanted)


def files_below(folder: Path) -> list[str]:
    """Names of the files below a folder, relative to it, sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def open_zip(path: Path, wanted: Wanted = lambda name: True) -> Archive:
    """A ZIP, its names with slashes; zipfile itself keeps threads apart.

    Raises: UserError as `open_archive` does, and for one with a password.
    """
    with ExitStack() as opened:
        with _readable(path):
            file = opened.enter_context(zipfile.ZipFile(path))
        found = [(slashed(info.filename), info) for info in file.infolist() if not info.is_dir()]
        found = [(name, info) for name, info in found if wanted(name)]
        check_once((name for name, _ in found), str(path))
        for name, info in found:
            _check(path, name, not stat.S_ISLNK(info.external_attr >> 16))
            if info.flag_bits & ENCRYPTED:
                raise UserError(f"{path} has a password; make it anew without one")
        infos = dict(found)

        def read(name: str) -> bytes:
            with _readable(path):
                return file.read(infos[name])

        return Archive(list(infos), read, opened.pop_all().close)


def _tar(path: Path, wanted: Wanted) -> Archive:
    """A tar without compression."""
    with _readable(path), tarfile.open(path, "r:") as tar:
        found = [(member.name, (member.offset_data, member.size)) for member in _members(tar, path, wanted)]
        check_end(tar)
    check_once((name for name, _ in found), str(path))
    places = dict(found)
    return _at_places(places, open(path, "rb"))


def _compressed_tar(path: Path, wanted: Wanted) -> Archive:
    """A .tgz, .tar.bz2 or .tar.xz: read once from end to end, the wanted files copied into a temporary file."""
    places = {}
    with ExitStack() as opened:
        spool = opened.enter_context(tempfile.TemporaryFile())
        with _readable(path), tarfile.open(path, "r|*") as tar:
            for member in _members(tar, path, wanted):
                content = tar.extractfile(member)
                assert content is not None  # of a regular file
                if member.name in places:
                    check_once((member.name, member.name), str(path))
                places[member.name] = (spool.tell(), member.size)
                spool.write(content.read())
        spool.flush()
        opened.pop_all()
    return _at_places(places, spool)


def _at_places(places: Mapping[str, tuple[int, int]], file: IO[bytes]) -> Archive:
    """Files that lie in `file`, each at its offset and of its size."""

    def read(name: str) -> bytes:
        offset, size = places[name]
        return os.pread(file.fileno(), size, offset)

    return Archive(list(places), read, file.close)


def check_end(tar: tarfile.TarFile) -> None:
    """Checks that an uncompressed tar that was read to its end ended there: tarfile takes a damaged header for the end.

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
    except READERS as error:
        check_limits(error)
        raise UserError(
            f"{path} cannot be read: {error}; it must be a ZIP, a tar or a compressed tar: download it again"
        ) from error


def _check(path: Path, name: str, regular: bool) -> None:
    if not regular:
        raise UserError(f"{name!r} in {path} is not a regular file but a link or the like; get the archive anew")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise UserError(f"{name!r} in {path} leads out of the archive; get it anew, from its owner")
