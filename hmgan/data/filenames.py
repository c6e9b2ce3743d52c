"""Which files of a folder or an archive are data, by their names alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from hmgan.errors import UserError

# Those that Pillow cannot read here are named as unreadable rather than passed over.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
    *(".tga", ".avif", ".heic", ".heif", ".jp2", ".jxl"),
)
LITTER_REASON = "litter of a file manager or notebook"
LITTER = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "icon\r"}


def is_litter(name: str) -> bool:
    """Whether macOS, Windows or a notebook left the file: hidden ones ("._x.png", ".ipynb_checkpoints/"), Thumbs.db."""
    parts = PurePosixPath(name).parts
    return any((part.startswith(".") and part != "..") or part.lower() in LITTER for part in parts)


def is_image(name: str) -> bool:
    """Whether a file of this name is an image, and no litter."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS and not is_litter(name)


def sorted_out(names: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The images, and the other files by the reason why they are none."""
    images: list[str] = []
    others: dict[str, list[str]] = {}
    for name in names:
        if is_image(name):
            images.append(name)
        else:
            others.setdefault(LITTER_REASON if is_litter(name) else "not named like an image", []).append(name)
    return images, others


def ends_in(name: str, *endings: str) -> bool:
    """Whether a file's name has one of these endings, in small letters or capitals, and it is no litter."""
    return name.lower().endswith(endings) and not is_litter(name)


def tars(folder: Path) -> list[Path]:
    """The shards in a folder, sorted."""
    return sorted(path for path in folder.glob("*") if ends_in(path.name, ".tar"))


def slashed(name: str) -> str:
    """A name as Windows wrote it, with slashes."""
    return name.replace("\\", "/")


def check_once(names: Iterable[str], what: str) -> None:
    """Raises UserError for a name that comes twice, since neither is better than the other."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(f"{what} has two entries for {name!r}; keep the right one")
        seen.add(name)
