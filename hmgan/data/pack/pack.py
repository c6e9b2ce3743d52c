"""Packs images into WebDataset shards with an index. The same source gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from webdataset import TarWriter

from hmgan.data import left_out
from hmgan.data.decode import BACKGROUND, checked_background, decode, open_image
from hmgan.data.index import Index, Shard, new_index
from hmgan.data.pack import encode
from hmgan.data.pack.destinations import Destination, Journal, open_destination
from hmgan.data.pack.image_folders import ImageSource, Item
from hmgan.data.pack.kinds import open_source
from hmgan.data.pack.progress import busy, counting
from hmgan.data.pack.sizes import common_size, power_of_two
from hmgan.errors import UserError, one_line
from hmgan.files import check_limits, sha256_of

SEED = 0  # of the order of the samples over the shards
JOURNAL = 4  # version of the journal's lines: one of another version is begun anew
MOST_THREADS = 256
AHEAD = 8  # images per thread that are encoded or waiting for it


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the images are brought into the shards."""

    pad: int = 0
    fit: str = "crop"
    extension: str = "png"
    quality: int = 95
    shard_samples: int = 1000
    background: str = BACKGROUND

    def __post_init__(self) -> None:
        if self.shard_samples < 1:
            raise UserError(f"shard_samples counts images and must be at least 1, got {self.shard_samples}")
        if self.pad < 0:
            raise UserError(f"--pad counts pixels on each side and must be at least 0, got {self.pad}")
        for name, value, known in ("--fit", self.fit, encode.FITS), ("--format", self.extension, encode.ENCODERS):
            if value not in known:
                raise UserError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality must lie in 1..100, got {self.quality}")
        checked_background(self.background)


class _Encoded(NamedTuple):
    """An encoded image, or why there is none."""

    position: int  # of the item
    key: str
    name: str  # in the source
    label: int
    image: bytes
    error: str
    source: str  # digest of its bytes in the source
    transparent: bool = False
    side: int = 0  # of the square that was resized


def pack(
    src: str | Path,
    out: str | Path,
    *,
    resolution: int | None = None,
    name: str | None = None,
    opens: Callable[[Path], ImageSource] = open_source,
    threads: int | None = None,
    report: Callable[[str], None] = lambda line: print(one_line(line), file=sys.stderr),
    pad: int = 0,
    fit: str = "crop",
    extension: str = "png",
    quality: int = 95,
    shard_samples: int = 1000,
    background: str = BACKGROUND,
    leave_out_unlabelled: bool = False,
) -> Index:
    """Writes the images of SRC as shards into the new folder OUT, or to a URL.

    A packing that was killed is resumed by a call with the same arguments, which verifies and keeps what is finished.

    Args:
        src: any kind that `kinds.KINDS` and `kinds.TABLES` list.
        resolution: pixels; a power of two. Left out: the size that all the images share.
        name: the shards are called NAME-000000.tar and so on; left out: OUT's own name.
        opens: what opens SRC; left out: as whichever kind it is.
        threads: that decode and encode; left out: one per core. They change no byte.
        report: takes a line for every image that is left out because it cannot be read, or that is there twice.
        pad: pixels added on every side in the border's colour, in place of resizing (28 -> 32: 2).
        fit: how images become squares: "crop" takes the middle, "pad" adds a border.
        extension, quality: "png", "jpg" or "webp"; the quality of the latter two.
        shard_samples: images per shard.
        background: the colour that transparent pixels are composed on, as CSS names it.
        leave_out_unlabelled: whether images without a label are left out; else they are an error.

    Raises: UserError if SRC, OUT or an option is refused; no folder OUT is left then.
    """
    src = Path(src)
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UserError(f"--threads must lie in 1..{MOST_THREADS}, got {threads}; leave it out for one per core")
    if resolution is not None:
        power_of_two(resolution)
    options = Options(
        pad=pad, fit=fit, extension=extension, quality=quality, shard_samples=shard_samples, background=background
    )
    name = _shard_name(name, out)
    with busy(f"looking through {src.name}"):
        source = opens(src)
    with closing(source), open_destination(out) as (target, journal_file):
        without = sum(map(len, source.unlabelled.values()))
        left_out.judge(source.unlabelled, len(source.items) + without, src, leave_out_unlabelled)
        if not source.items:
            raise UserError(f"{src} holds no images; give one that does")
        passed_over = left_out.together(source.unlabelled, source.passed_over)
        left_out.tell(passed_over, src, report)
        items = _interleaved(source.items)
        size = power_of_two(common_size(src, items, fit=fit, pad=pad) if resolution is None else resolution)
        plan = json.dumps([[key, item.label] for key, item in items]) + repr((JOURNAL, name, size, options))
        with busy(f"checking what is finished in {out}"):
            journal = Journal(
                journal_file, hashlib.sha256(plan.encode()).hexdigest(), target, partial(_unchanged, items)
            )
        for key, why in journal.damaged:
            report(f"left out, cannot be read: {key} ({why}) in {src}")
        begin = journal.lines[-1]["next"] if journal.lines else 0
        encode = partial(_encode, src, {label: i for i, label in enumerate(source.classes)}, size, options)
        samples = _encoded(items[begin:], begin, encode, threads or os.cpu_count() or 1, f"packing {src.name}")
        _write(samples, target, journal, options, size, name, lambda line: report(f"{line} in {src}"))
        damaged = journal.damaged
        index = new_index(
            folder=target.folder,
            resolution=size,
            classes=source.classes,
            shards=[Shard(**packed["shard"]) for packed in journal.lines],
            rows=[row for packed in journal.lines for row in packed["rows"]],
            keys=[key for packed in journal.lines for key in packed["keys"]],
            skipped=len(damaged),
        )
        for label in (label for label, count in zip(index.classes, index.counts, strict=True) if not count):
            raise UserError(
                f"class {label!r} of {src} has no readable image: {len(damaged)} of {len(items)} images are "
                f"damaged, such as {damaged[0][0]}; replace them"
            )
        if transparent := sum(packed["transparent"] for packed in journal.lines):
            report(f"{transparent} images have transparency and were put on {background} (--background) in {src}")
        if enlarged := sum(packed["enlarged"] for packed in journal.lines):
            report(f"{enlarged} images are smaller than {size} px and were enlarged in {src}")
        unreadable = ({f"cannot be read: {why}": [key]} for key, why in damaged)
        target.finish(index, left_out.files(left_out.together(passed_over, *unreadable)))
    return index


def _encode(
    src: Path, label_of: dict[str, int], size: int, options: Options, position: int, key: str, item: Item
) -> _Encoded:
    source = ""
    try:
        content = item.read()
        source = _digest(content)
        with open_image(content) as header:
            transparent = header.has_transparency_data
        square = encode.FITS[options.fit](decode(content, options.background))
    except Exception as error:  # on damaged bytes, decoders raise nearly anything
        check_limits(error)
        return _Encoded(position, key, item.key, 0, b"", str(error) or type(error).__name__, source)
    fitted = encode.fitted(square, size, options.pad, f"{item.key} in {src}")
    image = encode.encode(fitted, options.extension, options.quality)
    return _Encoded(position, key, item.key, label_of[item.label], image, "", source, transparent, square.width)


def _encoded(
    items: Sequence[tuple[str, Item]], begin: int, encode: Callable[..., _Encoded], threads: int, what: str
) -> Iterator[_Encoded]:
    """The encoded images in the order of the items, whatever the number of threads."""
    with ThreadPoolExecutor(threads) as pool, counting(what, begin + len(items), begin) as advance:
        futures = (pool.submit(encode, position, key, item) for position, (key, item) in enumerate(items, begin))
        coming = deque(islice(futures, AHEAD * threads))
        while coming:
            yield coming.popleft().result()
            advance()
            coming.extend(islice(futures, 1))


def _write(
    samples: Iterator[_Encoded],
    target: Destination,
    journal: Journal,
    options: Options,
    size: int,
    name: str,
    report: Callable[[str], None],
) -> None:
    """Fills shard after shard."""
    first_of = {digest: key for line in journal.lines for digest, key in line["seen"].items()}
    following = next(samples, None)
    while following is not None:
        path = target.work / f"{name}-{len(journal.lines):06d}.tar"
        known: list[tuple[int, int]] = []  # label and crc32 of each image
        keys: list[str] = []
        damaged: dict[str, str] = {}
        seen: dict[str, str] = {}
        first, sources = following.position, hashlib.sha256()
        transparent = enlarged = position = 0
        # Fixed owner and time: the bytes then depend on the images only.
        with open(path, "wb") as file, TarWriter(file, "hmgan", "hmgan", mtime=0, encoder=False) as tar:
            while following is not None and (len(known) < options.shard_samples or following.error):
                sample, position = following, following.position + 1
                following = next(samples, None)
                sources.update(sample.source.encode())
                if sample.error:
                    report(f"left out, cannot be read: {sample.name} ({sample.error})")
                    damaged[sample.name] = sample.error
                    continue
                label = str(sample.label).encode()
                tar.write({"__key__": sample.key, options.extension: sample.image, "cls": label})
                transparent += sample.transparent
                enlarged += not options.pad and sample.side < size
                known.append((sample.label, zlib.crc32(sample.image)))
                keys.append(sample.key)
                digest = _digest(sample.image)
                if digest in first_of:
                    report(f"the same image twice: {first_of[digest]} and {sample.name}")
                else:
                    seen[digest] = first_of[digest] = sample.name
        shard = Shard(name=path.name, bytes=path.stat().st_size, sha256=sha256_of(path), samples=len(known))
        rows = [(*place, *rest) for place, rest in zip(_places(path, options), known, strict=True)]
        told = {"transparent": transparent, "enlarged": enlarged, "first": first, "sources": sources.hexdigest()}
        journal.add(shard, rows=rows, keys=keys, damaged=damaged, seen=seen, next=position, **told)


def _unchanged(items: Sequence[tuple[str, Item]], line: dict[str, Any]) -> bool:
    """Whether the images of a finished shard still are what was packed."""
    sources = hashlib.sha256()
    for _, item in items[line["first"] : line["next"]]:
        try:
            sources.update(_digest(item.read()).encode())
        except Exception as error:  # as it could not be read then either, or the digests differ
            check_limits(error)
    return sources.hexdigest() == line["sources"]


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=12).hexdigest()


def _places(path: Path, options: Options) -> list[tuple[int, int]]:
    """Offset and length of every image in a tar, in order."""
    with tarfile.open(path) as tar:
        ending = f".{options.extension}"
        return [(member.offset_data, member.size) for member in tar if member.name.endswith(ending)]


def _interleaved(items: Sequence[Item]) -> list[tuple[str, Item]]:
    """Items with their shard keys, in an order that mixes the classes.

    Sorted by a hash and not shuffled by a library's generator, whose stream may change with its version.
    """
    taken: set[str] = set()
    keyed = [(_key(item.key, taken), item) for item in items]
    return sorted(keyed, key=lambda pair: hashlib.sha256(f"{SEED}/{pair[0]}".encode()).digest())


def _key(name: str, taken: set[str]) -> str:
    """A unique key for a file name: WebDataset ends a key at its first dot, and a tar name holds 100 bytes."""
    stem = re.sub(r"[^A-Za-z0-9_/-]", "_", re.sub(r"\.[^./]*$", "", name)).strip("/")[-80:]
    key, n = stem, 1
    while key in taken:
        n += 1
        key = f"{stem}-{n}"
    taken.add(key)
    return key


def _shard_name(name: str | None, out: str | Path) -> str:
    if name is None:
        return re.sub(r"[^A-Za-z0-9_-]", "_", Path(out).resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"the shards' name may hold letters, digits, _ and -, got {name!r}; choose another")
    return name
