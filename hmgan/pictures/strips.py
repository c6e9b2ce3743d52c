"""Pictures of a conditional generator's classes: between them, side by side, and taken apart.

Legend: K columns of the strip, E class-vector width, H/W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.edits import SOURCE
from hmgan.modulation.parts_alone import partly
from hmgan.pictures.class_images import class_images
from hmgan.pictures.grids import shown
from hmgan.pictures.images import check_size, enlarged, fitted, grid, labelled_grid, to_uint8, with_row_names

CELL = 64  # screen pixels that a small image is enlarged to
STRIP_WIDTH = 1800  # screen pixels, unless the images themselves are wider
MOST_STEPS, COLUMNS = 8, 16  # steps from class to class by default; fewer where they would fill more columns
PARTS = ("source", "gamma alone", "beta alone", "b alone", "all three")
PARTS_COLUMNS = 20  # of a sheet of parts, at most
MOST_COLUMNS = 256  # of a strip that a person can look at
AT_ONCE = 8  # class vectors whose edits are in memory together
INK, FAINT = "#1c1e21", "#8a9099"


@torch.no_grad()
def interpolation_strip(
    generator: TransferGenerator,
    classes: Sequence[str],
    *,
    steps: int | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3),
    truncation: float = 1.0,
) -> Image.Image:
    """A row per seed; along it only the class vector changes, linearly from class 0 to class 1 and on to the last.

    Args:
        classes: all names, in the order of the labels; each stands above the column that is its class alone.
        steps: columns from one class to the next; None: 8, or fewer where there are many classes.

    Raises: UserError for fewer than 2 classes or no seeds; ValueError for fewer than 1 step.
    """
    if len(classes) < 2 or not seeds:
        raise UserError(f"a strip needs 2 classes and 1 seed or more, got {len(classes)} and {len(seeds)}")
    if steps is None:
        steps = max(2, min(MOST_STEPS, COLUMNS // (len(classes) - 1)))
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    classes = fitting(classes, steps)
    check_size((len(classes) - 1) * steps + 1, len(seeds), generator.resolution)
    device = next(generator.parameters()).device
    vectors_KE = chain(generator.trained["class_net"](torch.arange(len(classes), device=device)), steps)
    chunks = []
    for chunk_KE in vectors_KE.split(AT_ONCE):
        edits, row_K = generator.edits_of(chunk_KE), torch.arange(len(chunk_KE), device=device)
        latents = (generator.latents([seed] * len(row_K)) for seed in seeds)
        rows = [to_uint8(generator.render(each, edits, row_K, truncation).image).cpu() for each in latents]
        chunks.append(torch.stack(rows))
    images = torch.cat(chunks, dim=1).flatten(0, 1)
    columns, size = len(vectors_KE), images.shape[-1]
    scale = max(1, min(CELL // size, STRIP_WIDTH // (columns * size)))
    sheet = grid(enlarged(images, scale), columns, pad=scale)
    pitch = (size + 1) * scale
    centres = [scale + i * steps * pitch + size * scale // 2 for i in range(len(classes))]
    return _with_headings(sheet, classes, centres, steps * pitch)


@torch.no_grad()
def style_grid(
    generator: TransferGenerator,
    classes: Sequence[str],
    *,
    seeds: Sequence[int] = tuple(range(8)),
    truncation: float = 1.0,
) -> Image.Image:
    """A row per class, a column per seed; the images of a column have the same latents.

    Raises: ValueError without classes or seeds.
    """
    if not classes or not seeds:
        raise ValueError(f"a style grid needs classes and seeds, got {len(classes)} and {len(seeds)}")
    latents, classes = generator.latents(list(seeds)), shown(classes, generator.resolution)
    rows = {name: class_images(generator, latents, label, truncation).cpu() for label, name in enumerate(classes)}
    return labelled_grid(rows, max(1, CELL // generator.resolution))


@torch.no_grad()
def parts_sheet(
    generator: TransferGenerator, classes: Sequence[str], *, seeds: Sequence[int] = (0, 1, 2, 3)
) -> Image.Image:
    """A block per class, a column per seed: the source, gamma, beta and b of the class each alone, and all three.

    All blocks and rows share their latents. Where there are many classes, only the first seeds are drawn.

    Raises: ValueError without classes or seeds.
    """
    if not classes or not seeds:
        raise ValueError(f"a sheet of parts needs classes and seeds, got {len(classes)} and {len(seeds)}")
    classes = classes[:PARTS_COLUMNS]
    count = max(1, min(len(seeds), PARTS_COLUMNS // len(classes)))
    latents = generator.latents(list(seeds[:count]))
    row_B = torch.zeros_like(latents.crossover_B)
    size = generator.resolution
    scale = max(1, min(CELL // size, STRIP_WIDTH // (count * len(classes) * size)))
    sites, blocks = generator.source.sites(), []
    for label in range(len(classes)):
        edits = generator.edits(row_B.new_tensor([label]))
        alone = (partly(edits, sites, gamma=True), partly(edits, sites, beta=True), partly(edits, sites, b=True))
        images = [to_uint8(generator.render(latents, each, row_B).image) for each in (SOURCE, *alone, edits)]
        blocks.append(grid(enlarged(torch.cat(images), scale), count, pad=scale))
    width, gap = blocks[0].width, size * scale // 4
    sheet = Image.new("RGB", ((width + gap) * len(blocks) - gap, blocks[0].height), "white")
    for i, block in enumerate(blocks):
        sheet.paste(block, (i * (width + gap), 0))
    headed = _with_headings(sheet, classes, [i * (width + gap) + width // 2 for i in range(len(blocks))], width)
    pitch = (size + 1) * scale
    middles = [headed.height - sheet.height + i * pitch + (pitch + scale) // 2 for i in range(len(PARTS))]
    return with_row_names(headed, PARTS, middles, max(12, min(20, pitch // 3)))


def fitting(classes: Sequence[str], steps: int) -> Sequence[str]:
    """The first classes, as many as a strip has columns for, and two at least."""
    return classes[: 2 + max(0, MOST_COLUMNS - 1 - steps) // steps]


def chain(vectors_CE: Tensor, steps: int) -> Tensor:
    """[C, E] -> [(C - 1) * steps + 1, E]: straight lines between neighbours; every `steps`-th row is a class's own."""
    weights_S = torch.arange(steps, device=vectors_CE.device, dtype=vectors_CE.dtype) / steps
    between = torch.lerp(vectors_CE[:-1, None], vectors_CE[1:, None], weights_S[None, :, None])
    return torch.cat([rearrange(between, "c s e -> (c s) e"), vectors_CE[-1:]])


def _with_headings(sheet: Image.Image, names: Sequence[str], centres: Sequence[int], pitch: int) -> Image.Image:
    """The sheet below a line of names, each over its column and joined to it by a tick; `pitch` pixels apart."""
    size = max(12, min(30, sheet.width // 60))
    font = ImageFont.load_default(size=size)
    room = pitch - size / 2
    top, tick = math.ceil(size * 1.9), size // 3
    whole = Image.new("RGB", (sheet.width, top + sheet.height), "white")
    whole.paste(sheet, (0, top))
    draw = ImageDraw.Draw(whole)
    for name, centre in zip(names, centres, strict=True):
        text = fitted(name, font, room)
        half = font.getlength(text) / 2
        # The first and the last name stay on the sheet, even if wider than their columns.
        x = min(max(centre, half + 2), max(half + 2, sheet.width - half - 2))
        draw.text((x, top - tick - size * 0.25), text, fill=INK, font=font, anchor="ms")
        draw.line([(centre, top - tick + 1), (centre, top - 1)], fill=FAINT, width=max(1, size // 12))
    return whole
