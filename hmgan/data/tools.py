"""Tools for packed data: index the shards of others, describe a set, verify every byte of it."""

from __future__ import annotations

import os
import tarfile
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from PIL import Image

from hmgan.data import left_out
from hmgan.data.decode import BACKGROUND, checked_background, checked_range, open_image
from hmgan.data.filenames import LITTER_REASON, check_once, ends_in, tars
from hmgan.data.images import Images
from hmgan.data.index import Index, Shard, new_index
from hmgan.data.index_files import index_in, known_in, read_index, upload_index, write_index
from hmgan.data.pack.image_folders import class_order
from hmgan.data.pack.labels import labels_or_one_class
from hmgan.data.pack.tables import TarSample, tar_samples
from hmgan.data.shards import ShardSet
from hmgan.data.store.cache import DiskCache
from hmgan.data.store.folders import Folder, LocalFolder, RemoteFolder, cache_limit, open_folder
from hmgan.data.store.stores import open_store
from hmgan.errors import DamageError, UserError, one_line, some_of
from hmgan.files import cache_folder, sha256_of, sha256_of_open
from hmgan.units import size
from hmgan.urls import is_url


def make_index(
    place: str,
    classes: Sequence[str] | None = None,
    report: Callable[[str], None] = print,
    background: str | None = None,
    leave_out_unlabelled: bool = False,
) -> Index:
    """Indexes the WebDataset shards at a path or URL, and writes the index beside them.

    What an index that is there already knows besides, such as the names of the classes, is kept.

    Args:
        classes: names of the classes 0, 1, ..., for shards whose .cls are numbers; left out: what the .cls say.
        background: the colour that transparent pixels are composed on, as CSS names it; left out: white.
        leave_out_unlabelled: whether samples without a label are left out; else they are an error.

    Raises: UserError if there are no shards, a sample is not whole, or images differ in size.
    """
    shards: list[Shard] = []
    samples: list[tuple[int, TarSample, int]] = []  # each with the number of its shard before it, its crc32 after it
    sizes: dict[tuple[int, int], str] = {}  # of images, and the key of the first one of each
    transparent = 0
    litter: list[str] = []
    for name, tar in _tars(place):
        try:
            its = tar_samples(tar, litter)
        except (tarfile.TarError, ValueError) as error:
            raise UserError(f"{place}/{name} cannot be indexed: {error}; mend it or copy it again") from error
        shards.append(Shard(name=name, bytes=tar.stat().st_size, sha256=sha256_of(tar), samples=len(its)))
        with open(tar, "rb") as file:
            for sample in its:
                content = os.pread(file.fileno(), sample.length, sample.offset)
                image = _opened(content, f"{sample.key} in {place}/{name}")
                sizes.setdefault(image.size, sample.key)
                transparent += image.has_transparency_data
                samples.append((len(shards) - 1, sample, zlib.crc32(content)))
        report(f"{name}: {len(its)} images")
    if not samples:
        raise UserError(f"{place} holds no .tar shards with images; give the folder that they lie in")
    _check_square(place, sizes)
    texts, without = labels_or_one_class([(sample.key, sample.label) for _, sample, _ in samples], ())
    left_out.judge(without, len(samples), place, leave_out_unlabelled)
    kept = [(*found, label) for found, label in zip(samples, texts, strict=True) if label]
    labels, of_shard = [label for *_, label in kept], Counter(number for number, *_ in kept)
    known = known_in(open_folder(place))
    background = checked_background(background or known.background or BACKGROUND)
    classes = classes or _kept_classes(place, known.classes, class_order(labels))
    found = _checked_classes(labels, classes)
    label_of = {name: i for i, name in enumerate(found)}
    index = new_index(
        folder=LocalFolder(Path(place)),
        resolution=next(iter(sizes))[0],
        classes=found if classes is None else classes,
        shards=[replace(shard, samples=of_shard[number]) for number, shard in enumerate(shards)],
        rows=[(sample.offset, sample.length, label_of[label], crc32) for _, sample, crc32, label in kept],
        keys=[sample.key for _, sample, *_ in kept],
        skipped=known.skipped,
        background=background,
    )
    if transparent:
        report(f"{transparent} images have transparency and are put on {background} (--background)")
    others = left_out.together(without, {LITTER_REASON: litter} if litter else {})
    left_out.tell(others, place, report)
    extra = left_out.files(left_out.together(left_out.kept(open_folder(place)), others))
    if is_url(place):
        upload_index(index, open_store(place), extra)
    else:
        write_index(index, Path(place), extra)
    return read_index(place)


def _check_square(place: str, sizes: Mapping[tuple[int, int], str]) -> None:
    """Raises UserError unless all images are squares of one size."""
    width, height = next(iter(sizes))
    if len(sizes) > 1 or width != height:
        some = ", ".join(f"{w} x {h} ({key})" for (w, h), key in list(sizes.items())[:2])
        raise UserError(f"the images in {place} must be squares of one size, got {some}; hmgan pack brings them there")


def _kept_classes(place: str, known: Sequence[str], found: Sequence[str]) -> Sequence[str] | None:
    """The names in the index that is there, of the classes 0, 1, ... that were found; None where they are the same."""
    if set(known) <= set(found):
        return None
    if list(found) == [str(i) for i in range(len(known))]:
        return known
    raise UserError(
        f"the index in {place} names the classes {some_of(known)}, the shards have {some_of(found)}; "
        "name each with --classes"
    )


def _checked_classes(labels: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    """The labels found, in order. Raises UserError unless they are 0, 1, ... where `given` names them."""
    names = class_order(labels)
    check_once(given or (), "--classes")
    if given is not None and names != tuple(map(str, range(len(given)))):
        raise UserError(f"--classes names {len(given)} classes, the shards have {some_of(names)}; name each")
    return names


def _tars(place: str) -> Iterator[tuple[str, Path]]:
    """The name of every shard and its file, which in a store's case is temporary."""
    if not is_url(place):
        yield from ((path.name, path) for path in tars(Path(place)))
        return
    store = open_store(place)
    for name in store.names():
        if ends_in(name, ".tar"):
            with tempfile.NamedTemporaryFile() as file:
                file.writelines(store.blocks(name, store.size(name)))
                file.flush()
                yield name, Path(file.name)


def _opened(content: bytes, what: str) -> Image.Image:
    """The image, its header read."""
    try:
        image = open_image(content)
        checked_range(image)
        return image
    except Exception as error:
        raise UserError(f"image {what} cannot be read: {error}; mend it or pack the shards anew") from error


def verify(place: str, report: Callable[[str], None] = print) -> list[str]:
    """Reads every byte of a set where it lies, and decodes every image. Returns a line for everything wrong."""
    with _fresh(place) as folder:
        index = index_in(folder)
        data = ShardSet(replace(index, shards=tuple(replace(shard, by_parts=False) for shard in index.shards)))
        data.checks = True
        return _wrong(place, data, report)


@contextmanager
def _fresh(place: str) -> Iterator[Folder]:
    """The folder; a store's, with an empty cache of its own."""
    if not is_url(place) or place.startswith("file://"):
        yield open_folder(place)
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="verify-") as folder:
        yield RemoteFolder(open_store(place), DiskCache(Path(folder), cache_limit()))


def _wrong(place: str, data: ShardSet, report: Callable[[str], None]) -> list[str]:
    wrong: list[str] = []
    first = 0
    for number, shard in enumerate(data.index.shards):
        items = range(first, first := first + shard.samples)
        before = len(wrong)
        try:
            with os.fdopen(data.index.folder.open(shard), "rb") as file:
                found = sha256_of_open(file.fileno())
            if found != shard.sha256:
                wrong.append(f"{place}/{shard.name} has the sha256 {found[:12]}, the index says {shard.sha256[:12]}")
        except DamageError as error:
            wrong.append(str(error))
            continue
        for i in items:
            try:
                data[i]
            except DamageError as error:
                wrong.append(str(error))
        report(f"{number + 1}/{len(data.index.shards)} {shard.name} {'ok' if len(wrong) == before else 'WRONG'}")
    return wrong


def described(data: Images) -> Iterator[str]:
    """Describes a set in lines: its size, and a histogram of its classes."""
    for index in data.indexes:
        total = sum(shard.bytes for shard in index.shards)
        yield f"{index.folder}: {len(index)} images of {index.resolution} px in {len(index.shards)} shards"
        each = size(total / max(1, len(index)))
        yield f"{size(total)}, {each} an image; {index.skipped} unreadable ones were left out"
    yield f"digest {data.digest}"
    names = list(map(one_line, data.classes))
    widest = max(map(len, names))
    for name, count in zip(names, data.counts, strict=True):
        yield f"{name:{widest}} {count:>9} {'#' * round(40 * count / max(data.counts))}"
