"""A generator with its classes, for pictures. N images, Z latent, H/W pixels."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.models.drawing import CONST_KEY, Drawing, Images
from hmgan.models.looks import Look, Noise, Towards
from hmgan.models.walks import Walk


def load(path: Path | str, device: str | torch.device | None = None) -> Model:
    """The model in a run directory, a snapshot or an exported folder, of a registry name, or of OWNER/NAME on a hub.

    Of a hub nothing but safetensors and JSON is read.

    Args:
        device: where it draws; left out: a GPU where there is one.

    Raises: ValueError, in one line, where there is no generator, or what is there does not fit.
    """
    return Model(load_generator(path), device)


class Model(Drawing):
    """Draws images of seeds and classes. No gradients, unless `__call__` is asked for them.

    An image depends on its seed, its class and the device, not on what is drawn beside it: a CPU draws one after the
    other, a GPU batches of one class and of one size.
    """

    def __call__(
        self,
        latents_N: Tensor,
        labels: Sequence[str | int] | Tensor,
        *,
        truncation: float = 1.0,
        noise: Noise = "const",
        gradients: bool = False,
    ) -> Tensor:
        """Images of latents [N, Z] and N classes, by name or place: [N, 3, H, W], float, in about [-1, 1].

        In place of latents, styles [N, K, W]: a w for each block, such as `hmgan project` writes.

        Raises: ValueError for a class that is not there, or latents of another shape.
        """
        self.check_latents(latents_N)
        if len(latents_N) != len(labels) or not len(labels):
            raise UserError(f"{len(labels)} labels for {len(latents_N)} latents; give one label per latent")
        names = labels.tolist() if isinstance(labels, Tensor) else labels
        latents = self.generator.latents([CONST_KEY] * len(names))
        latents_N = latents_N.to(latents.z)
        if noise == "random":
            drawn = tuple(torch.randn_like(n) for n in latents.noise)
        else:
            drawn = latents.noise if noise == "const" else tuple(torch.zeros_like(n) for n in latents.noise)
        label_N = torch.tensor([self.label(name) for name in names], device=self.device)
        with nullcontext() if gradients else torch.no_grad():
            if latents_N.ndim == 3:
                return torch.cat(list(self._of_styles(latents_N, drawn, label_N.tolist(), truncation)))
            latents = latents._replace(z=latents_N, z_mix=latents_N, noise=drawn)
            return self.generator(latents, label_N, truncation).image

    def sample(
        self,
        seeds: int | Iterable[int],
        classes: str | int | Sequence[str | int] = 0,
        *,
        truncation: float = 1.0,
        noise: Noise = "random",
        towards: Towards = "mean",
        device: str | torch.device | None = None,
    ) -> Images:
        """One image per seed: [N, H, W, 3] uint8. One class is that of all images; else there is one per seed.

        Args:
            towards: what truncation pulls to: the "mean" of all styles, or the centre of the "class".
            device: moves the model there first.

        Raises: ValueError for a class that is not there or has no centre, or another number of classes than of seeds.
        """
        if device is not None:
            self.to(device)
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        each = _beside(seeds, classes)
        looks = [Look((s,), self.pure(c), truncation, noise, towards) for s, c in zip(seeds, each, strict=True)]
        return self._stacked(self.drawn(looks))

    def mix(
        self,
        coarse: Sequence[int],
        fine: Sequence[int],
        classes: str | int | Sequence[str | int] = 0,
        *,
        crossover: int | None = None,
        truncation: float = 1.0,
        noise: Noise = "random",
    ) -> Images:
        """The style of one seed in the blocks before `crossover`, of another behind: [N, H, W, 3] uint8.

        Args:
            crossover: first block of the fine style, 1 or more; left out: the middle.

        Raises: ValueError as `sample`, for other numbers of seeds, and for a block that is not there.
        """
        first = max(1, self.blocks // 2) if crossover is None else crossover
        if not 1 <= first < self.blocks:
            raise UserError(f"crossover is a block from 1 to {self.blocks - 1}, got {first}")
        if len(coarse) != len(fine):
            raise UserError(f"mix takes one fine seed per coarse one, got {len(fine)} for {len(coarse)}")
        pairs = zip(coarse, fine, _beside(coarse, classes), strict=True)
        looks = [Look((*[a] * first, b), self.pure(c), truncation, noise) for a, b, c in pairs]
        return self._stacked(self.drawn(looks))

    def interpolate(
        self,
        seeds: int | Sequence[int],
        classes: str | int | Sequence[str | int],
        *,
        steps: int = 8,
        spherical: bool = False,
        truncation: float = 1.0,
        noise: Noise = "random",
    ) -> Images:
        """A walk: `steps` images from each station to the next, and the last one: [T, H, W, 3] uint8.

        A single seed or class stays; several are stations, and of both as many. Class vectors and latents go along
        lines, or on spheres.

        Raises: ValueError for no way to go, other numbers of seeds than of classes, or fewer than 1 step.
        """
        return self._stacked(self.walked(Walk.between(seeds, classes, steps, spherical), truncation, noise))

    def source(self) -> Model:
        """The unconditional generator that the classes are edits of; it shares this model's weights."""
        plain = copy.copy(self)
        plain.transfer, plain.classes, plain.centres = None, ("all",), {}
        return plain

    def _of_styles(
        self, styles_NKW: Tensor, noise: Sequence[Tensor], labels: Sequence[int], truncation: float
    ) -> Iterator[Tensor]:
        """[1, 3, H, W] of each image's styles, one after the other."""
        for place, label in enumerate(labels):
            edits = replace(self.edits(self.pure(label)), counts=(1,))
            styles = self.given(styles_NKW[place], edits, truncation)
            yield self.generator.backbone.synthesise(styles, [n[place : place + 1] for n in noise], edits).image

    def _stacked(self, images: Iterator[Images]) -> Images:
        empty = np.empty((0, self.resolution, self.resolution, 3), np.uint8)
        return np.stack(kept) if (kept := list(images)) else empty


def _beside(seeds: Sequence[int], classes: str | int | Sequence[str | int]) -> Sequence[str | int]:
    """One class per seed."""
    if isinstance(classes, str | int):
        return [classes] * len(seeds)
    if len(classes) != len(seeds):
        raise UserError(f"{len(classes)} classes for {len(seeds)} seeds; give one class, or one per seed")
    return classes
