"""`hmgan sample`: pictures from a trained generator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hmgan.errors import UserError
from hmgan.files import file_names, write_atomically
from hmgan.models.drawing import Images
from hmgan.models.looks import Look, key_of
from hmgan.models.model import Model, load
from hmgan.options.pictures import SampleOptions
from hmgan.options.shared import model_of, parse_seeds
from hmgan.pictures.images import check_size, pasted, save_png

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
SHAPES = "numbers [N, Z] or [N, K, W]"
QUALITY = 95  # of jpg and webp


def parse_grid(text: str) -> tuple[int, int]:
    """`8x4` -> (8, 4), columns by rows. Raises UserError for anything else."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--grid wants COLUMNSxROWS such as 8x4, got {text!r}")
    return int(match[1]), int(match[2])


def keys(seeds: Sequence[int]) -> list[int]:
    """Of the images of these seeds."""
    return [key_of(seed) for seed in seeds]


def draw_samples(options: SampleOptions) -> None:
    """One picture per class and seed, or one grid per class. An image depends on its class and seed alone.

    Raises: UserError for an unknown class, seeds and grid that do not match, or a file that holds no latents.
    """
    seeds, outdir, latents_N = parse_seeds(options.seeds), options.outdir, None
    if options.latents is not None:
        latents_N = read_latents(options.latents)
        seeds = list(range(len(latents_N)))
    columns, rows = parse_grid(options.grid) if options.grid else (1, len(seeds))
    if columns * rows != len(seeds):
        raise UserError(f"--grid {columns}x{rows} has {columns * rows} places for {len(seeds)} seeds; make them equal")
    if options.extension not in FORMATS:
        raise UserError(f"--format is one of {', '.join(FORMATS)}, got {options.extension!r}")
    if options.grid and options.extension != "png":
        raise UserError("a grid is a PNG; leave --format out")
    model = load(model_of(options.model, options.network), device_of(options.device))
    for name in options.classes:
        model.label(name)
    for name in options.classes or model.classes:
        model.centre(model.pure(name), options.trunc, options.towards)  # that it is there
    files = file_names(model.classes)
    if options.grid:
        check_size(columns, rows, model.resolution)
    for name in options.classes or model.classes:
        drawn = pictures(model, name, seeds, latents_N, options)
        file = outdir / files[name]
        if options.grid:
            tiles = (torch.from_numpy(image).permute(2, 0, 1) for image in drawn)
            save_png(pasted(tiles, len(seeds), columns), file.with_name(f"{file.name}.png"))
            print(f"{file}.png")
            continue
        what = "seed" if latents_N is None else "latent"
        for seed, image in zip(seeds, drawn, strict=True):
            save(image, file.with_name(f"{file.name}-{what}{seed:04d}.{options.extension}"))
        print(f"{file}-{what}*.{options.extension}: {len(seeds)} images")


def pictures(
    model: Model, name: str, seeds: Sequence[int], latents_N: Tensor | None, options: SampleOptions
) -> Iterator[Images]:
    """[H, W, 3] of each seed or latent, as they are drawn."""
    if latents_N is not None:
        return model.of_latents(latents_N, name, truncation=options.trunc, noise=options.noise, towards=options.towards)
    classes = model.pure(name)
    return model.drawn(Look((seed,), classes, options.trunc, options.noise, options.towards) for seed in seeds)


def save(image: Images, path: Path) -> None:
    """Writes a picture whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = FORMATS[path.suffix[1:]]
    # PNG has no use for a quality, and Pillow passes over it.
    write_atomically(path, partial(Image.fromarray(image).save, format=kind, quality=QUALITY))


def read_latents(path: Path) -> Tensor:
    """[N, Z], or styles [N, K, W], of a .npy, or of the one array or `z` of a .npz; float32.

    Raises: UserError for anything else.
    """
    try:
        read = np.load(path, allow_pickle=False)
        arrays = {"z": read} if isinstance(read, np.ndarray) else {name: read[name] for name in read.files}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} holds no latents ({error}); give a .npy or .npz of {SHAPES}") from None
    array = arrays.get("z", next(iter(arrays.values()), np.empty(0)))
    one = len(arrays) == 1 or "z" in arrays
    if not one or array.ndim not in (2, 3) or array.dtype.kind not in "fiu" or not len(array):
        raise UserError(f"{path} should hold one array of {SHAPES}, or one named z, got {', '.join(arrays)}")
    if not np.isfinite(array).all():
        raise UserError(f"{path} holds numbers that are not finite; give latents without them")
    return torch.from_numpy(array.astype(np.float32))


def device_of(name: str | None) -> torch.device | None:
    """Raises UserError for a device that is not there."""
    if name is None:
        return None
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {name!r} is not to be had here ({str(error).splitlines()[0]}); try cpu") from None
    return device
