"""`hmgan mix`: classes by styles, or the coarse style of one image with the fine style of another.

Legend: R rows (seeds), K columns (seeds), H/W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hmgan.commands.sample import keys
from hmgan.errors import UserError, unknown
from hmgan.files import file_names
from hmgan.generators.base import Generator
from hmgan.generators.snapshot import load_generator
from hmgan.options.pictures import MixOptions
from hmgan.options.shared import model_of, parse_seeds
from hmgan.pictures.class_images import best_device, class_images, drawn_by_keys
from hmgan.pictures.grids import shown, which
from hmgan.pictures.images import check_size, enlarged, grid, labelled_grid, save_png
from hmgan.pictures.strips import CELL
from hmgan.types import Latents

CLASSES = "classes.png"


@torch.no_grad()
def draw_mixes(options: MixOptions) -> None:
    """Without --with, classes.png: a row per class, a column per seed. With it, CLASS.png for every class named.

    Raises: UserError for an unknown class, a generator that has nothing to mix, or a block that does not exist.
    """
    rows, names, truncation = parse_seeds(options.seeds), options.classes, options.trunc
    columns = None if options.fine is None else parse_seeds(options.fine)
    network = model_of(options.model, options.network)
    loaded = load_generator(network)
    generator, known = loaded.generator.to(best_device()), loaded.classes
    for name in names:
        if name not in known:
            raise unknown("class", name, known)
    wanted = [name for name in known if not names or name in names]
    if columns is None:
        if options.crossover is not None:
            raise UserError("--crossover says where the style of --with begins; give --with, or leave it out")
        if loaded.transfer is None:
            raise UserError(f"{network} has no classes to set beside styles; give --with, to mix styles alone")
        some = wanted if names else shown(wanted, generator.resolution)
        check_size(len(rows), len(some), generator.resolution)
        drawn = {
            name: torch.stack(list(drawn_by_keys(generator, keys(rows), known.index(name), truncation)))
            for name in some
        }
        if left_out := which(some, wanted):
            print(left_out)
        paths = {CLASSES: labelled_grid(drawn, scale_of(generator))}
    else:
        check_size(len(columns) + 1, len(rows) + 1, generator.resolution)
        first = first_fine_block(generator, options.crossover)
        files = file_names(known)
        paths = {
            f"{files[name]}.png": mixed_grid(generator, known.index(name), rows, columns, first, truncation)
            for name in wanted
        }
    for name, picture in paths.items():
        save_png(picture, options.outdir / name)
        print(options.outdir / name)


def mixed_grid(
    generator: Generator, label: int, rows: Sequence[int], columns: Sequence[int], first: int, truncation: float = 1.0
) -> Any:
    """The images of the columns' seeds above, those of the rows' at the left, and their mixtures between.

    A mixture has the row's noise, and its style in the blocks before `first`.
    """
    coarse, fine = (generator.latents(keys(seeds)) for seeds in (rows, columns))
    above = class_images(generator, fine, label, truncation)
    sheet = [torch.full_like(above[:1], 255), above]
    for r in range(len(rows)):
        own = chosen(coarse, [r] * len(columns))
        mixture = own._replace(z_mix=fine.z, crossover_B=torch.full_like(own.crossover_B, first))
        sheet += [
            class_images(generator, chosen(coarse, [r]), label, truncation),
            class_images(generator, mixture, label, truncation),
        ]
    scale = scale_of(generator)
    return grid(enlarged(torch.cat(sheet), scale), len(columns) + 1, pad=scale)


def first_fine_block(generator: Generator, crossover: int | None) -> int:
    """Raises UserError if the block does not exist, or the generator takes one style for all blocks."""
    blocks = int(generator.latents([0]).crossover_B)
    if bool((generator.latents(range(64), mixing=1.0).crossover_B == blocks).all()):
        raise UserError("this generator's blocks take no second style; leave --with out, for classes by styles")
    if crossover is not None and not 1 <= crossover < blocks:
        raise UserError(
            f"--crossover is a block from 1 to {blocks - 1}, whose style is the first fine one, got {crossover}"
        )
    return crossover or max(1, blocks // 2)


def chosen(latents: Latents, samples: Sequence[int]) -> Latents:
    """Some of the samples, in any order."""
    at = list(samples)
    noise = tuple(n[at] for n in latents.noise)
    return Latents(latents.z[at], noise, latents.z_mix[at], latents.crossover_B[at])


def scale_of(generator: Generator) -> int:
    """Screen pixels per pixel."""
    return max(1, CELL // generator.resolution)
