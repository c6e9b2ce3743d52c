"""`hmgan project`: the styles with which a model draws a given image. K blocks, W style, H/W pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hmgan.commands.sample import device_of
from hmgan.data.decode import decode
from hmgan.errors import UserError
from hmgan.files import check_limits, write_atomically
from hmgan.metrics.networks import load_perceptual
from hmgan.metrics.perceptual import Perceptual
from hmgan.models.drawing import CONST_KEY, Frame
from hmgan.models.looks import Look
from hmgan.models.model import Model, load
from hmgan.options.pictures import ProjectOptions
from hmgan.pictures.images import enlarged, grid, save_png
from hmgan.pictures.strips import CELL

DRAWS = 16  # images of each class that the image is compared with first
RATE, PIXELS = 0.05, 1.0  # Adam's, and the weight of the pixels' squared difference beside the perceptual one


def project(options: ProjectOptions) -> None:
    """Writes styles.npy [1, K, W], for `hmgan sample --latents`, and projected.png.

    The picture shows the image, what is drawn instead, and that under every class.

    Raises: UserError for a file that is no image, or a class that is not there.
    """
    model = load(options.model, device_of(options.device))
    target_13HW = opened(options.image, model.resolution).to(model.device)
    names = model.classes if options.cls is None else (options.cls,)
    looks = load_perceptual("squeezenet-layers").to(model.device)
    label, start = nearest(model, [model.label(name) for name in names], target_13HW, looks)
    styles_KW, gap = fitted(model, label, start, target_13HW, looks, options.steps)
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "styles.npy", partial(_save, styles_KW[None].cpu().numpy()))
    with torch.no_grad():
        drawn = [next(model.render([framed(model, styles_KW, each)])) for each in (label, *range(len(model.classes)))]
    images = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
    sheet = torch.cat([((target_13HW + 1) * 127.5).round().to(torch.uint8).cpu(), images])
    scale = max(1, CELL // model.resolution)
    save_png(grid(enlarged(sheet, scale), len(sheet), pad=scale), options.out / "projected.png")
    print(f"{model.classes[label]}: squeezenet-layers {gap:.3f} from the image; {options.out}")


def opened(path: Path, side: int) -> Tensor:
    """[1, 3, side, side] in [-1, 1], the middle square. Raises UserError for a file that is no image."""
    content = path.read_bytes()
    try:
        image = decode(content)
    except Exception as error:  # Pillow's readers raise nearly anything for damaged bytes
        check_limits(error)
        raise UserError(f"{path} is no image that can be read ({error}); give a PNG, JPEG or WebP") from None
    least = min(image.size)
    left, top = (image.width - least) // 2, (image.height - least) // 2
    image = image.crop((left, top, left + least, top + least)).resize((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 127.5 - 1


@torch.no_grad()
def framed(model: Model, styles_KW: Tensor, label: int) -> Frame:
    """A frame of these styles under a class, with the one noise of all."""
    noise = model.generator.latents([CONST_KEY]).noise
    return Frame(list(styles_KW[:, None]), noise, model.edits(model.pure(label)))


@torch.no_grad()
def nearest(model: Model, labels: list[int], target_13HW: Tensor, looks: Perceptual) -> tuple[int, Tensor]:
    """The class and the styles [K, W], of a few draws of each, whose image is nearest."""
    found: list[tuple[float, int, Tensor]] = []
    for label in labels:
        for seed in range(DRAWS):
            frame = model.frame(Look((seed,), model.pure(label), noise="const"))
            found.append((float(distance(model, frame, target_13HW, looks)), label, torch.cat(frame.styles)))
    _, label, styles_KW = min(found, key=lambda each: each[0])
    return label, styles_KW


def distance(model: Model, frame: Frame, target_13HW: Tensor, looks: Perceptual) -> Tensor:
    """Between the image and what is drawn, features and pixels."""
    edits = replace(frame.edits, counts=(1,))
    image = model.generator.backbone.synthesise(frame.styles, frame.noise, edits).image
    image = image.clamp(-1, 1)  # as it is shown
    features = looks((image + 1) * 127.5, (target_13HW + 1) * 127.5).sum()
    return features + PIXELS * (image - target_13HW).square().mean()


def fitted(
    model: Model, label: int, start_KW: Tensor, target_13HW: Tensor, looks: Perceptual, steps: int
) -> tuple[Tensor, float]:
    """The styles [K, W] after `steps` of Adam, each block's own (W+), the best of the way; and their distance."""
    styles_KW = start_KW.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([styles_KW], lr=RATE)
    frame, best, least = framed(model, start_KW, label), start_KW, float("inf")
    for step in range(steps + 1):
        gap = distance(model, frame._replace(styles=list(styles_KW[:, None])), target_13HW, looks)
        if float(gap.detach()) < least:
            best, least = styles_KW.detach().clone(), float(gap.detach())
        if step < steps:
            optimizer.zero_grad()
            gap.backward(inputs=[styles_KW])
            optimizer.step()
    return best, least


def _save(array: NDArray[np.float32], part: Path) -> None:
    with part.open("wb") as file:
        np.save(file, array)
