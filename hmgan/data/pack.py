"""Pack images into WebDataset shards with an index. The same source gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track
from webdataset import TarWriter

from hmgan.data.folders import LocalFolder
from hmgan.data.index import Index, Shard, write_index
from hmgan.data.sources import Item, open_source
from hmgan.errors import UserError

SEED = 0  # of the order of the samples over the shards


class _Sample(NamedTuple):
    key: str
    label: int
    png: bytes


def pack(
    src: str | Path,
    out: str | Path,
    *,
    resolution: int | None = None,
    pad: int = 0,
    shard_samples: int = 1000,
    name: str | None = None,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Index:
    """Write the images of SRC as shards into the new folder OUT.

    Args:
        src: any kind that `sources.SOURCES` lists.
        resolution: pixels; a power of two. Left out: the size that all the images share.
        pad: pixels added on every side in the border's colour, in place of resizing (28 -> 32: 2).
        shard_samples: images per shard.
        name: the shards are called NAME-000000.tar and so on; left out: OUT's own name.
        report: takes one line for every image that is left out because it cannot be read.

    Raises: UserError if SRC, an option, or OUT does not do; OUT is then not there.
    """
    src, out = Path(src), Path(out)
    if shard_samples < 1:
        raise UserError(f"shard_samples counts images and must be at least 1, got {shard_samples}")
    if pad < 0:
        raise UserError(f"--pad counts pixels on each side and must be at least 0, got {pad}")
    name = _shard_name(name, out)
    with closing(open_source(src)) as source, _new_folder(out) as folder:
        items = _interleaved(list(source))
        size = _power_of_two(_common_size(src, items, pad) if resolution is None else resolution)
        damaged: list[str] = []
        samples = _samples(src, items, source.classes, size, pad, damaged, report)
        index = _write(folder, LocalFolder(out), samples, source.classes, size, shard_samples, name, damaged)
        for label, count in zip(index.classes, index.counts, strict=True):
            if not count:
                raise UserError(
                    f"class {label!r} of {src} has no readable image: {len(damaged)} of {len(items)} images are "
                    f"damaged, such as {damaged[0]}; replace them"
                )
        write_index(index, folder)
    return index


def _samples(
    src: Path,
    items: Sequence[tuple[str, Item]],
    classes: Sequence[str],
    resolution: int,
    pad: int,
    damaged: list[str],
    report: Callable[[str], None],
) -> Iterator[_Sample]:
    """The readable images as PNG; the others are told to `report` and added to `damaged`."""
    label_of = {name: label for label, name in enumerate(classes)}
    for key, item in _progress(items, f"packing {src.name}"):
        try:
            image = _decode(item.read())
        except Exception as error:  # on damaged bytes, decoders raise nearly anything
            report(f"cannot read image {item.key} in {src}: {str(error) or type(error).__name__}; left out")
            damaged.append(item.key)
            continue
        fitted = _fit(image, resolution, pad, f"{item.key} in {src}")
        yield _Sample(key, label_of[item.label], _png(fitted))


def _write(
    folder: Path,
    final: LocalFolder,
    samples: Iterator[_Sample],
    classes: Sequence[str],
    resolution: int,
    shard_samples: int,
    name: str,
    damaged: Sequence[str],
) -> Index:
    """Fill tar after tar; `damaged` is counted once all the samples are through."""
    shards: list[Shard] = []
    rows: list[tuple[int, int, int, int]] = []
    following = next(samples, None)
    while following is not None:
        path = folder / f"{name}-{len(shards):06d}.tar"
        labels: list[int] = []
        # Fixed owner and time: the bytes then depend on the images only.
        with open(path, "wb") as file, TarWriter(file, "hmgan", "hmgan", mtime=0, encoder=False) as tar:
            while following is not None and len(labels) < shard_samples:
                tar.write({"__key__": following.key, "png": following.png, "cls": str(following.label).encode()})
                labels.append(following.label)
                following = next(samples, None)
        rows += [(len(shards), *place, label) for place, label in zip(_places(path), labels, strict=True)]
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        shards.append(Shard(name=path.name, bytes=len(content), sha256=digest, samples=len(labels)))
    table = np.array(rows, np.int64).reshape(-1, 4)
    return Index(
        folder=final,
        resolution=resolution,
        classes=tuple(classes),
        counts=tuple(np.bincount(table[:, 3], minlength=len(classes)).tolist()),
        skipped=len(damaged),
        shards=tuple(shards),
        shard=table[:, 0].astype(np.int32),
        offset=table[:, 1],
        length=table[:, 2].astype(np.int32),
        label=table[:, 3].astype(np.int32),
    )


def _places(path: Path) -> list[tuple[int, int]]:
    """Offset and length of every image in a tar, in order."""
    with tarfile.open(path) as tar:
        return [(member.offset_data, member.size) for member in tar if member.name.endswith(".png")]


def _interleaved(items: list[Item]) -> list[tuple[str, Item]]:
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


def _shard_name(name: str | None, out: Path) -> str:
    if name is None:
        return re.sub(r"[^A-Za-z0-9_-]", "_", out.resolve().name)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise UserError(f"the shards' name may hold letters, digits, _ and -, got {name!r}; choose another")
    return name


def _power_of_two(resolution: int) -> int:
    if resolution < 4 or resolution & (resolution - 1):
        below = max(4, 1 << max(0, resolution.bit_length() - 1))
        raise UserError(
            f"the resolution must be a power of two and at least 4, got {resolution}; "
            f"pass --resolution {below} or {2 * below}, with --pad to add a border instead of resizing"
        )
    return resolution


def _common_size(src: Path, items: Sequence[tuple[str, Item]], pad: int) -> int:
    """The one size of all the readable images, padding included."""
    sizes: dict[int, str] = {}
    for _, item in _progress(items, f"measuring {src.name}"):
        if side := _side(item):
            sizes.setdefault(side + 2 * pad, item.key)
    if not sizes:
        raise UserError(
            f"none of the {len(items)} images in {src} can be read, such as {items[0][1].key}; replace them"
        )
    if len(sizes) > 1:
        some = ", ".join(f"{size} px ({key})" for size, key in sorted(sizes.items())[:2])
        raise UserError(f"the images in {src} must share one size, got {some}; pass --resolution to resize them")
    return next(iter(sizes))


def _side(item: Item) -> int | None:
    """The shorter side, from the image's header only; None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(item.read())) as image:
            return min(image.size)
    except Exception:  # damaged: told and counted when the image is packed
        return None


def _decode(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # Pillow's own conversion would clip 16 bits to white
        upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
    return upright.convert("RGB")


def _fit(image: Image.Image, resolution: int, pad: int, what: str) -> Image.Image:
    """Cut the square out of the middle, then pad or resize it to `resolution`."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    if pad:
        if side + 2 * pad != resolution:
            got = f"{side} px with --pad {pad} for --resolution {resolution}"
            raise UserError(f"{what}: the size and twice the pad must give the resolution, got {got}; change --pad")
        return _bordered(np.asarray(square), pad)
    if side == resolution:
        return square
    return square.resize((resolution, resolution), Image.Resampling.LANCZOS)


def _bordered(pixels: NDArray[np.uint8], pad: int) -> Image.Image:
    """[H, W, 3] framed in the median of its outermost pixels, so that an object at the edge is not smeared."""
    outermost = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    height, width = pixels.shape[0] + 2 * pad, pixels.shape[1] + 2 * pad
    framed = np.empty((height, width, 3), np.uint8)
    framed[:] = np.sort(outermost, axis=0)[len(outermost) // 2]
    framed[pad:-pad, pad:-pad] = pixels
    return Image.fromarray(framed)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _progress(items: Sequence[tuple[str, Item]], what: str) -> Iterator[tuple[str, Item]]:
    console = Console(stderr=True)
    yield from track(items, what, console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes OUT at the end, and vanishes on an error: OUT is whole or not there."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists already; choose another folder or remove it")
    temporary = out.resolve().with_name(f".{out.resolve().name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
