"""The images that come with the package, so that a first run needs no download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from hmgan.data.pack.image_folders import SHEETS
from hmgan.errors import unknown


def embedded_names() -> tuple[str, ...]:
    """The sets that `embedded` knows, sorted."""
    return tuple(sorted(path.parent.name for path in _folder().glob(f"*/{SHEETS}")))


def embedded(name: str) -> Path:
    """The folder of contact sheets of one set, ready for `pack`.

    Raises: UserError if there is no set of this name.
    """
    if name not in (names := embedded_names()):
        raise unknown("embedded images", name, names)
    return _folder() / name


def _folder() -> Path:
    return Path(str(files("hmgan"))) / "assets" / "images"
