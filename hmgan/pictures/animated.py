"""Images one after the other: GIF, WebP, MP4."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hmgan.errors import UserError
from hmgan.files import write_atomically

STILL, MOVING = (".png",), (".gif", ".webp", ".mp4")
FPS = 12


def check_suffix(path: Path) -> None:
    """Raises UserError for a name that is of no format here, or of one whose encoder is not installed."""
    if path.suffix.lower() not in (*STILL, *MOVING):
        known = ", ".join((*STILL, *MOVING))
        raise UserError(f"{str(path)!r} has no suffix of a format; give a name that ends in one of {known}")
    if path.suffix.lower() == ".mp4" and find_spec("imageio_ffmpeg") is None:
        raise UserError("MP4 needs imageio-ffmpeg; install hmgan[video], or give a .webp or .gif")


def save_animation(frames: Iterator[Image.Image], path: Path) -> None:
    """Writes frames of one size, for ever around, whole or not at all. Only MP4 is written as the frames come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    write = _mp4 if kind == ".mp4" else _gif if kind == ".gif" else _webp
    write_atomically(path, partial(write, frames))


def _webp(frames: Iterator[Image.Image], part: Path) -> None:
    first = next(frames)
    first.save(part, "WEBP", save_all=True, append_images=frames, duration=1000 // FPS, loop=0, quality=90)


def _gif(frames: Iterator[Image.Image], part: Path) -> None:
    first = next(frames)
    first.save(part, "GIF", save_all=True, append_images=frames, duration=1000 // FPS, loop=0)


def _mp4(frames: Iterator[Image.Image], part: Path) -> None:
    from imageio_ffmpeg import write_frames

    first = next(frames)
    # Encoders of video want even sides.
    size = (first.width + first.width % 2, first.height + first.height % 2)
    options: dict[str, Any] = {"fps": FPS, "macro_block_size": 2, "output_params": ["-f", "mp4"]}
    sink = write_frames(str(part), size, **options)
    sink.send(None)
    try:
        for frame in chain([first], frames):
            sheet = Image.new("RGB", size, "white")
            sheet.paste(frame)
            sink.send(np.asarray(sheet).tobytes())
    finally:
        sink.close()
