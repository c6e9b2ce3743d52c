"""Data sets of tiny pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_pictures import pixels, png


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder per class; image i of all of them has the pixels `pixels(i)`."""

    def write(name: str = "src", size: int = 8, **counts: int) -> Path:
        i = 0
        for label, count in (counts or {"cat": 5, "dog": 4}).items():
            (tmp_path / name / label).mkdir(parents=True)
            for _ in range(count):
                (tmp_path / name / label / f"{i:03d}.png").write_bytes(png(pixels(i, size)))
                i += 1
        return tmp_path / name

    return write
