"""Sources that are folders and ZIPs of images; tables.py has the others, kinds.py tells them apart.

A source lists its items in a fixed order; the bytes of an image are read only when its `read` is called.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from PIL import Image

from hmgan.errors import UserError
from hmgan.types import UNLABELLED

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
LABELS, SHEETS, SHEETS_FORMAT = "dataset.json", "sheets.json", "hmgan-sheets/1"


class Item(NamedTuple):
    """One image: its name inside the source, its class, and how to get its bytes."""

    key: str
    label: str
    read: Callable[[], bytes]


class Source(Protocol):
    """A set of images. `classes` are in label order, and every item's label is one of them."""

    classes: tuple[str, ...]

    def __iter__(self) -> Iterator[Item]: ...

    def close(self) -> None: ...


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """By name; by value where all the names are numbers, so that class 2 comes before class 10."""
    unique = sorted(set(names))
    return tuple(sorted(unique, key=int) if all(n.isascii() and n.isdigit() for n in unique) else unique)


def is_image(name: str) -> bool:
    path = PurePosixPath(name)
    # Hidden files are the litter of file managers ("._x.png", ".ipynb_checkpoints/"), never meant as data.
    return path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in path.parts)


def _images(folder: Path) -> list[str]:
    """Names of all images below `folder`, relative to it, sorted."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(filter(is_image, names))


def _folders(path: Path) -> list[Path]:
    return sorted(d for d in path.iterdir() if d.is_dir() and not d.name.startswith("."))


def has_folders(path: Path) -> bool:
    return path.is_dir() and bool(_folders(path))


class ClassFolders:
    """A folder per class, searched to any depth; the folders' names are the classes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = {d.name: _images(d) for d in _folders(path)}
        self.classes = class_order(self._names)
        for label, names in self._names.items():
            if not names:
                raise UserError(f"class folder {path / label} holds no images; put images in it or remove it")
        loose = sorted(f.name for f in path.iterdir() if f.is_file() and is_image(f.name))
        if loose:
            raise UserError(f"{path} holds class folders and {loose[0]} outside of them; move it into a class folder")

    def __iter__(self) -> Iterator[Item]:
        for label in self.classes:
            for name in self._names[label]:
                yield Item(f"{label}/{name}", label, (self._path / label / name).read_bytes)

    def close(self) -> None: ...


class LooseImages:
    """A folder of images without class folders: one class, "all"."""

    def __init__(self, path: Path) -> None:
        self._path, self._names = path, _images(path)
        self.classes: tuple[str, ...] = (UNLABELLED,)
        if not self._names:
            raise UserError(
                f"{path} holds no images ({' '.join(EXTENSIONS)}) and no class folders; "
                "give a folder of images, a folder per class, or a StyleGAN ZIP"
            )

    def __iter__(self) -> Iterator[Item]:
        for name in self._names:
            yield Item(name, UNLABELLED, (self._path / name).read_bytes)

    def close(self) -> None: ...


class _StyleGan:
    """Images and the labels of StyleGAN's dataset.json; `read(name)` gives a member's bytes."""

    def __init__(self, path: Path, names: list[str], read: Callable[[str], bytes]) -> None:
        self._names, self._read = names, read
        if not names:
            raise UserError(f"{path} holds no images ({' '.join(EXTENSIONS)}); give a data set made for StyleGAN")
        pairs = _json(f"{LABELS} in {path}", partial(read, LABELS)).get("labels")
        self._labels = dict.fromkeys(names, UNLABELLED) if pairs is None else _stylegan_labels(path, pairs)
        self.classes = class_order(self._labels[name] for name in names if name in self._labels)
        if missing := [name for name in names if name not in self._labels]:
            got = f"{len(missing)} without one such as {missing[0]}"
            raise UserError(f"{LABELS} in {path} must label every image, got {got}; add its label")
        if extra := sorted(set(self._labels).difference(names)):
            raise UserError(
                f"{LABELS} in {path} labels {extra[0]}, which is not there; add the image or drop its label"
            )

    def __iter__(self) -> Iterator[Item]:
        for name in self._names:
            yield Item(name, self._labels[name], partial(self._read, name))

    def close(self) -> None: ...


class StyleGanFolder(_StyleGan):
    """An unpacked StyleGAN data set: a folder with a dataset.json."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _images(path), lambda name: (path / name).read_bytes())


class StyleGanZip(_StyleGan):
    """A ZIP as StyleGAN's dataset tool writes it, with a dataset.json."""

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a readable ZIP: {error}; give a ZIP made for StyleGAN") from error
        if LABELS not in self._zip.namelist():
            self._zip.close()
            raise UserError(
                f"{path} has no {LABELS}; unzip it and pack the folder, or add one: "
                '{"labels": null}, or {"labels": [["00000/img00000000.png", 6], ...]}'
            )
        super().__init__(path, sorted(filter(is_image, self._zip.namelist())), self._zip.read)

    def close(self) -> None:
        self._zip.close()


class ContactSheets:
    """Equal tiles in one lossless image per class, described by sheets.json: how hmgan keeps its own pictures."""

    def __init__(self, path: Path) -> None:
        head = _json(str(path / SHEETS), (path / SHEETS).read_bytes)
        if head.get("format") != SHEETS_FORMAT:
            raise UserError(f"{path / SHEETS} must be of format {SHEETS_FORMAT!r}, got {head.get('format')!r}")
        self._path, self._tile, self._columns = path, int(head["tile"]), int(head["columns"])
        self._sheets: list[dict[str, Any]] = head["sheets"]
        self.classes = tuple(sheet["class"] for sheet in self._sheets)

    def __iter__(self) -> Iterator[Item]:
        for sheet in self._sheets:
            try:
                with Image.open(self._path / sheet["file"]) as image:
                    image.load()
            except (OSError, SyntaxError) as error:
                raise UserError(f"{self._path / sheet['file']} is damaged: {error}; reinstall hmgan") from error
            for i in range(int(sheet["count"])):
                yield Item(f"{sheet['class']}-{i:05d}", sheet["class"], partial(self._tile_png, image, i))

    def _tile_png(self, sheet: Image.Image, i: int) -> bytes:
        y, x = (self._tile * k for k in divmod(i, self._columns))
        file = io.BytesIO()
        sheet.crop((x, y, x + self._tile, y + self._tile)).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def close(self) -> None: ...


def _json(what: str, read: Callable[[], bytes]) -> dict[str, Any]:
    try:
        head = json.loads(read())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{what} is not readable JSON: {error}; mend it") from error
    if not isinstance(head, dict):
        raise UserError(f"{what} must hold an object {{...}}, got {type(head).__name__}; mend it")
    return head


def _stylegan_labels(path: Path, pairs: Any) -> dict[str, str]:
    labels = {}
    for pair in pairs if isinstance(pairs, list) else [pairs]:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int):
            raise UserError(f"labels of {LABELS} in {path} must be pairs [file name, whole number], got {pair!r:.80}")
        labels[pair[0]] = str(pair[1])
    return labels
