"""How fast the run directories' disk writes and reads, and the training images read, from a disk or an object store."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from hmgan.config.settings import Data
from hmgan.data.named import open_data
from hmgan.data.store.stores import MissingError, open_store
from hmgan.doctor.probe import ProbeResult, rate
from hmgan.errors import UserError
from hmgan.units import GIB, MIB, size
from hmgan.urls import is_url

PROBE, CHUNK = 64 * MIB, 4 * MIB  # bytes
LEAST_FREE, SLOW_DISK, SLOW_STORE = 2 * GIB, 10 * MIB, 5 * MIB  # bytes, bytes per second


def storage(outdir: Path, data: Data | None, probe: int = PROBE) -> ProbeResult:
    """Writes and reads `probe` bytes. For one rank only: several at once would slow each other down."""
    result = ProbeResult("storage")
    disk(result, outdir, probe)
    for name in data.sources if data is not None else ():
        remote = is_url(name)
        reads = store if remote else images if data is not None and data.reader == "index" else tars
        try:
            text, problem = reads(name, probe)
        except (UserError, MissingError, OSError) as error:
            reason = f" cannot be read: {str(error) or 'nothing is there'}" if remote else f": {error}"
            result.problems.append(f"--data {name}{reason}")
            continue
        result.rows += [("--data", name), ("", text)]
        if problem:
            result.problems.append(f"--data {name} {problem}")
    return result


def check_writable(outdir: Path) -> None:
    """Raises UserError for a place where no run directory can be made: no training begins there."""
    above = next(each for each in (outdir.absolute(), *outdir.absolute().parents) if os.path.lexists(each))
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise UserError(f"--outdir {outdir} cannot be written: {error.strerror}; give another one") from error


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


def disk(result: ProbeResult, outdir: Path, probe: int) -> None:
    """Writes a file, flushes it, and reads it back from the disk."""
    there = existing(outdir)
    path, chunk = there / f".hmgan-doctor-{os.getpid()}", os.urandom(min(CHUNK, probe))
    free = shutil.disk_usage(there).free
    text = f"{size(free)} free"
    try:
        start = perf_counter()
        with open(path, "wb", buffering=0) as file:
            for _ in range(probe // len(chunk)):
                file.write(chunk)
            os.fsync(file.fileno())
        written = probe / (perf_counter() - start)
        text = f"writes {size(written)}/s, reads {rate(*read([os.open(path, os.O_RDONLY)], probe))}, {text}"
        if free < LEAST_FREE:
            result.problems.append(f"--outdir {outdir} has {size(free)} left; free some, or give another one")
        if written < SLOW_DISK:
            slow = f"--outdir {outdir} writes only {size(written)}/s"
            result.problems.append(f"{slow}, and checkpoints wait for it; give another one")
    except OSError as error:
        result.problems.append(f"--outdir {outdir} cannot be written: {error.strerror}; give another one")
    finally:
        with suppress(OSError):  # of a folder that cannot be written
            path.unlink(missing_ok=True)
    result.rows += [("--outdir", str(outdir)), ("", text)]


def images(data: str, probe: int) -> tuple[str, str]:
    """How fast a packed set's first shards are read, and what is wrong with that."""
    found = open_data(data, report=lambda line: None)
    shards = [(index.folder, shard) for index in found.indexes for shard in index.shards]
    count, seconds = read((folder.open(shard) for folder, shard in shards), probe)
    per_second = len(found) / sum(shard.bytes for _, shard in shards) * count / max(seconds, 1e-9)
    text = f"{len(found):,} images of {found.resolution} px; reads {rate(count, seconds)}, {per_second:,.0f} images/s"
    slow = count >= MIB and count / seconds < SLOW_DISK
    return text, f"reads only {rate(count, seconds)}; copy it to a local disk" if slow else ""


def tars(data: str, probe: int) -> tuple[str, str]:
    """The same for a folder without an index."""
    shards = sorted(Path(data).glob("*.tar"))
    return f"{len(shards):,} shards; reads {rate(*read((os.open(s, os.O_RDONLY) for s in shards), probe))}", ""


def store(url: str, probe: int) -> tuple[str, str]:
    """The same for an object store, one request after another; training has several under way."""
    count, found = 0, open_store(url)
    names = found.names()
    began = perf_counter()
    for name in names:
        end, start = found.size(name), 0
        while start < end and count < probe:
            part = found.get(name, start, min(start + CHUNK, end))
            start, count = start + len(part), count + len(part)
    seconds = perf_counter() - began
    slow = count >= MIB and count / seconds < SLOW_STORE
    problem = f"reads only {rate(count, seconds)}; copy it nearer" if slow else ""
    if not names:
        problem = "holds no objects; give the folder that the index lies in"
    return f"{len(names):,} objects; reads {rate(count, seconds)}", problem


def read(descriptors: Iterable[int], limit: int) -> tuple[int, float]:
    """Bytes read, up to `limit`, and seconds taken: from the disk, past the page cache. Closes what it reads."""
    count, start = 0, perf_counter()
    for descriptor in descriptors:
        with open(descriptor, "rb", buffering=0) as file:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            while count < limit and (chunk := file.read(CHUNK)):
                count += len(chunk)
        if count >= limit:
            break
    return count, perf_counter() - start
