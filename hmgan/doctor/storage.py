"""How fast the run directories' disk writes and reads, and the training images read, from a disk or an object store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hmgan.config.settings import Data
from hmgan.data.named import open_data
from hmgan.data.store.stores import MissingError, open_store
from hmgan.doctor.section import Section, rate, watch
from hmgan.errors import UserError
from hmgan.units import GIB, MIB, size
from hmgan.urls import is_url

PROBE, CHUNK = 64 * MIB, 4 * MIB  # bytes
LEAST_FREE, SLOW_DISK, SLOW_STORE = 2 * GIB, 10 * MIB, 5 * MIB  # bytes, bytes per second


def storage(outdir: Path, data: Data | None, probe: int = PROBE) -> Section:
    """Called on one rank: others at the same time would measure each other."""
    section = Section.empty("storage")
    disk(section, outdir, probe)
    for name in [] if data is None else data.sources:
        if is_url(name):
            store(section, name, probe)
        elif data is not None and data.reader != "index":
            tars(section, name, probe)
        else:
            images(section, name, probe)
    return section


def disk(section: Section, outdir: Path, probe: int) -> None:
    """Writes a file, flushes it, forgets it, reads it."""
    there = next(folder for folder in (outdir.absolute(), *outdir.absolute().parents) if folder.is_dir())
    path, chunk = there / f".hmgan-doctor-{os.getpid()}", os.urandom(min(CHUNK, probe))
    free = shutil.disk_usage(there).free
    try:
        with watch() as writing, open(path, "wb", buffering=0) as file:
            for _ in range(probe // len(chunk)):
                file.write(chunk)
            os.fsync(file.fileno())
        count, reading = read([os.open(path, os.O_RDONLY)], probe)
    except OSError as error:
        section.rows.extend([("--outdir", str(outdir)), ("", f"{size(free)} free")])
        section.problems.append(f"--outdir {outdir} cannot be written: {error.strerror}; give another one")
        return
    finally:
        path.unlink(missing_ok=True)
    written = rate(probe, writing.seconds)
    text = f"writes {written}, reads {rate(count, reading)}, {size(free)} free"
    section.rows.extend([("--outdir", str(outdir)), ("", text)])
    if free < LEAST_FREE:
        section.problems.append(f"--outdir {outdir} has {size(free)} left; free some, or give another one")
    if probe / writing.seconds < SLOW_DISK:
        section.problems.append(
            f"--outdir {outdir} writes only {written}, and checkpoints wait for it; give another one"
        )


def images(section: Section, data: str, probe: int) -> None:
    """The first shards of a packed set."""
    try:
        found = open_data(data, report=lambda line: None)
        shards = [(index.folder, shard) for index in found.indexes for shard in index.shards]
        count, seconds = read((folder.open(shard) for folder, shard in shards), probe)
    except (UserError, OSError) as error:
        section.problems.append(f"--data {data}: {error}")
        return
    per_second = len(found) / sum(shard.bytes for _, shard in shards) * count / max(seconds, 1e-9)
    text = f"{len(found):,} images of {found.resolution} px; reads {rate(count, seconds)}, {per_second:,.0f} images/s"
    section.rows.extend([("--data", data), ("", text)])
    if count >= MIB and count / seconds < SLOW_DISK:
        section.problems.append(f"--data {data} reads only {rate(count, seconds)}; copy it to a local disk")


def tars(section: Section, data: str, probe: int) -> None:
    """The first shards of a folder without an index."""
    try:
        shards = sorted(Path(data).glob("*.tar"))
        count, seconds = read((os.open(shard, os.O_RDONLY) for shard in shards), probe)
    except OSError as error:
        section.problems.append(f"--data {data}: {error}")
        return
    section.rows.extend([("--data", data), ("", f"{len(shards):,} shards; reads {rate(count, seconds)}")])


def store(section: Section, url: str, probe: int) -> None:
    """The first objects of a prefix, one request after the other: training has several under way."""
    count = 0
    try:
        found = open_store(url)
        names = found.names()
        with watch() as reading:
            for name in names:
                end, start = found.size(name), 0
                while start < end and count < probe:
                    part = found.get(name, start, min(start + CHUNK, end))
                    start, count = start + len(part), count + len(part)
    except (UserError, MissingError) as error:
        section.problems.append(f"--data {url} cannot be read: {str(error) or 'nothing is there'}")
        return
    section.rows.extend([("--data", url), ("", f"{len(names):,} objects; reads {rate(count, reading.seconds)}")])
    if not names:
        section.problems.append(f"--data {url} holds no objects; give the folder that the index lies in")
    if count >= MIB and count / reading.seconds < SLOW_STORE:
        section.problems.append(f"--data {url} reads only {rate(count, reading.seconds)}; copy it nearer")


def read(descriptors: Iterable[int], limit: int) -> tuple[int, float]:
    """Bytes read and seconds taken, from the disk and not from the memory that it was kept in. Closes what it reads."""
    count = 0
    with watch() as reading:
        for descriptor in descriptors:
            with open(descriptor, "rb", buffering=0) as file:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                while count < limit and (chunk := file.read(CHUNK)):
                    count += len(chunk)
            if count >= limit:
                break
    return count, reading.seconds
