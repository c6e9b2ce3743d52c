"""Sources of images that are folders and ZIPs; tables.py has the others, kinds.py tells them apart."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from hmgan.data.filenames import EXTENSIONS, check_once, is_litter, slashed, sorted_out
from hmgan.data.left_out import LeftOut
from hmgan.data.pack.archives import Archive, files_below, open_zip
from hmgan.data.pack.labels import NONE, Labels, labels_of
from hmgan.errors import UserError
from hmgan.files import check_limits
from hmgan.types import UNLABELLED

LABELS, SHEETS, SHEETS_FORMAT = "dataset.json", "sheets.json", "hmgan-sheets/1"


class Item(NamedTuple):
    """One image: its name inside the source, its class, and what reads its bytes."""

    key: str
    label: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ImageSource:
    """Images to pack, in a fixed order. `classes` are in label order, and hold every item's label."""

    items: Sequence[Item]
    classes: tuple[str, ...]
    close: Callable[[], object] = lambda: None
    passed_over: LeftOut = field(default_factory=dict)  # files that are none
    unlabelled: LeftOut = field(default_factory=dict)  # images that have no class, which `items` lacks


def source_of(
    found: Sequence[tuple[str, Callable[[], bytes]]],
    labels: Labels,
    *,
    order: Sequence[str] = (),
    close: Callable[[], object] = lambda: None,
    passed_over: LeftOut | None = None,
) -> ImageSource:
    """The source of images, given as pairs of a key and what reads it, of which each has a label or None.

    Args:
        order: of the classes; left out: `class_order`.
    """
    items = [Item(key, label, read) for (key, read), label in zip(found, labels.texts, strict=True) if label]
    used = {item.label for item in items}
    classes = tuple(name for name in order if name in used) or class_order(used)
    return ImageSource(items, classes, close, passed_over or {}, labels.without)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sorts by name, or by value where all names are numbers, so that class 2 comes before class 10."""
    unique = sorted(set(names))
    return tuple(sorted(unique, key=int) if all(n.isascii() and n.isdigit() for n in unique) else unique)


def folders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without litter."""
    return sorted(d for d in path.iterdir() if d.is_dir() and not is_litter(d.name))


def class_folders(path: Path) -> ImageSource:
    """Opens a folder per class, searched to any depth; the folders' names are the classes."""
    images, others = sorted_out(files_below(path))
    keys: dict[str, list[str]] = {folder.name: [] for folder in folders(path)}
    loose: list[str] = []
    for key in images:
        label, slash, _ = key.partition("/")
        (keys[label] if slash else loose).append(key)
    for label, found in keys.items():
        if not found:
            raise UserError(f"class folder {path / label} holds no images; put images in it or remove it")
    classes = class_order(keys)
    items = [Item(key, label, (path / key).read_bytes) for label in classes for key in keys[label]]
    unlabelled = {f"{NONE} (no class folder)": loose} if loose else {}
    return ImageSource(items, classes, passed_over=others, unlabelled=unlabelled)


def loose_images(path: Path) -> ImageSource:
    """Opens a folder of images without class folders: one class, "all"."""
    names, others = sorted_out(files_below(path))
    if not names:
        raise UserError(
            f"{path} holds no images ({' '.join(EXTENSIONS)}) and no class folders; "
            "give a folder of images, a folder per class, or a StyleGAN ZIP"
        )
    items = [Item(name, UNLABELLED, (path / name).read_bytes) for name in names]
    return ImageSource(items, (UNLABELLED,), passed_over=others)


def stylegan_folder(path: Path) -> ImageSource:
    """Opens an unpacked StyleGAN data set: a folder with a dataset.json."""
    return _stylegan(path, Archive(files_below(path), lambda name: (path / name).read_bytes()))


def stylegan_zip(path: Path) -> ImageSource:
    """Opens a ZIP as StyleGAN's dataset tool writes it, with a dataset.json."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is not a readable ZIP; give a ZIP made for StyleGAN")
    with ExitStack() as opened:
        archive = opened.enter_context(closing(open_zip(path)))
        if LABELS not in archive.names:
            raise UserError(
                f"{path} has no {LABELS}; unzip it and pack the folder, or add one: "
                '{"labels": null}, or {"labels": [["00000/img00000000.png", 6], ...]}'
            )
        source = _stylegan(path, archive)
        opened.pop_all()
        return source


def _stylegan(path: Path, archive: Archive) -> ImageSource:
    """The images with the labels of StyleGAN's dataset.json."""
    names, others = sorted_out(sorted(name for name in archive.names if name != LABELS))
    if not names:
        raise UserError(f"{path} holds no images ({' '.join(EXTENSIONS)}); give a data set made for StyleGAN")
    pairs = _json(f"{LABELS} in {path}", partial(archive.read, LABELS)).get("labels")
    numbers = dict.fromkeys(names, UNLABELLED) if pairs is None else _stylegan_labels(path, pairs)
    if extra := sorted(set(numbers).difference(names)):
        raise UserError(f"{LABELS} in {path} labels {extra[0]}, which is not there; add the image or drop its label")
    labels = labels_of((name, numbers.get(name)) for name in names)
    found = [(name, partial(archive.read, name)) for name in names]
    return source_of(found, labels, close=archive.close, passed_over=others)


def contact_sheets(path: Path) -> ImageSource:
    """Opens equal tiles in one lossless image per class, described by sheets.json: hmgan's own pictures."""
    head = _json(str(path / SHEETS), (path / SHEETS).read_bytes)
    if head.get("format") != SHEETS_FORMAT:
        raise UserError(f"{path / SHEETS} must be of format {SHEETS_FORMAT!r}, got {head.get('format')!r}")
    tile, columns = int(head["tile"]), int(head["columns"])
    items = []
    for sheet in head["sheets"]:
        try:
            with Image.open(path / sheet["file"]) as image:
                image.load()
        except (OSError, SyntaxError) as error:
            check_limits(error)
            raise UserError(f"{path / sheet['file']} is damaged: {error}; reinstall hmgan") from error
        for i in range(int(sheet["count"])):
            y, x = (tile * k for k in divmod(i, columns))
            read = partial(_tile, image, (x, y, x + tile, y + tile))
            items.append(Item(f"{sheet['class']}-{i:05d}", sheet["class"], read))
    return ImageSource(items, tuple(sheet["class"] for sheet in head["sheets"]))


def _tile(sheet: Image.Image, box: tuple[int, int, int, int]) -> bytes:
    return quick_png(sheet.crop(box))


def quick_png(image: Image.Image) -> bytes:
    """The image as a PNG, hardly compressed: packing decodes it at once."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _json(what: str, read: Callable[[], bytes]) -> dict[str, Any]:
    try:
        head = json.loads(read())
    except (OSError, ValueError, RecursionError) as error:
        check_limits(error)
        raise UserError(f"{what} is not readable JSON: {error}; mend it") from error
    if not isinstance(head, dict):
        raise UserError(f"{what} must hold an object {{...}}, got {type(head).__name__}; mend it")
    return head


def _stylegan_labels(path: Path, pairs: Any) -> dict[str, object]:
    pairs = pairs if isinstance(pairs, list) else [pairs]
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int):
            raise UserError(f"labels of {LABELS} in {path} must be pairs [file name, whole number], got {pair!r:.80}")
    names = [slashed(name) for name, _ in pairs]
    check_once(names, f"{LABELS} in {path}")
    return dict(zip(names, (number for _, number in pairs), strict=True))
