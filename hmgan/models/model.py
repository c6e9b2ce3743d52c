"""A generator with its classes, for pictures. N images, Z latent, W style, E class-vector width, H/W pixels."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmgan import rng
from hmgan.errors import UserError, unknown
from hmgan.generators.snapshot import Loaded, load_generator
from hmgan.layers.edits import SOURCE, Edits
from hmgan.models.looks import Look, Noise, key_of
from hmgan.models.walks import Walk, blended
from hmgan.pictures.images import to_uint8
from hmgan.types import Latents

Images = NDArray[np.uint8]
AT_ONCE, PIXELS_AT_ONCE = 32, 2**20  # images that a GPU draws together
EDITS_KEPT = 4  # classes and blends whose edits stay in memory
CONST_KEY = rng.key(0, "const-noise", 0)


class Frame(NamedTuple):
    """A picture, ready to be drawn."""

    styles: list[Tensor]  # [1, W] per block
    noise: tuple[Tensor, ...]  # [1, 1, H, W] per block
    edits: Edits  # of one row


def load(path: Path | str, device: str | torch.device | None = None) -> Model:
    """The model in a run directory, a snapshot or an exported folder, of a registry name, or of OWNER/NAME on a hub.

    Of a hub nothing but safetensors and JSON is read.

    Args:
        device: where it draws; left out: a GPU where there is one.

    Raises: ValueError, in one line, where there is no generator, or what is there does not fit.
    """
    return Model(load_generator(path), device)


class Model:
    """Draws images of seeds and classes. No gradients, unless `__call__` is asked for them.

    An image depends on its seed, its class and the device, not on what is drawn beside it: a CPU draws one after the
    other, a GPU batches of one class and of one size.
    """

    def __init__(self, loaded: Loaded, device: str | torch.device | None = None) -> None:
        self.generator = loaded.generator.eval()
        self.classes: tuple[str, ...] = loaded.classes
        self.config: dict[str, Any] = loaded.config
        self.transfer = loaded.transfer
        self._edits: OrderedDict[tuple[tuple[int, float], ...], Edits] = OrderedDict()
        self._mean: list[Tensor] | None = None
        self.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def to(self, device: str | torch.device) -> Model:
        """The same model, moved."""
        wanted = torch.device(device)
        if wanted != self.device:
            self.generator.to(wanted)
            self._edits.clear()
            self._mean = None
        return self

    @property
    def device(self) -> torch.device:
        """Where it draws."""
        return next(self.generator.parameters()).device

    @property
    def resolution(self) -> int:
        """In pixels."""
        return self.generator.resolution

    @property
    def blocks(self) -> int:
        """How many styles an image has, one per block."""
        return int(self.generator.latents([0]).crossover_B)

    @property
    def z_dim(self) -> int:
        """Z, the width of a latent."""
        return self.generator.latents([0]).z.shape[1]

    def __call__(
        self,
        z_NZ: Tensor,
        labels: Sequence[str | int] | Tensor,
        *,
        truncation: float = 1.0,
        noise: Noise = "const",
        gradients: bool = False,
    ) -> Tensor:
        """Images of latents [N, Z] and N classes, by name or place: [N, 3, H, W], float, in about [-1, 1].

        Raises: ValueError for a class that is not there, or latents of another shape.
        """
        if z_NZ.ndim != 2 or z_NZ.shape[1] != self.z_dim or len(z_NZ) != len(labels) or not len(z_NZ):
            got = f"{list(z_NZ.shape)} and {len(labels)}"
            raise UserError(f"latents should be [N, {self.z_dim}] with N labels, got {got}; give one label per latent")
        names = labels.tolist() if isinstance(labels, Tensor) else labels
        latents = self.generator.latents([CONST_KEY] * len(z_NZ))
        z_NZ = z_NZ.to(latents.z)
        if noise == "random":
            drawn = tuple(torch.randn_like(n) for n in latents.noise)
        else:
            drawn = latents.noise if noise == "const" else tuple(torch.zeros_like(n) for n in latents.noise)
        latents = latents._replace(z=z_NZ, z_mix=z_NZ, noise=drawn)
        label_N = torch.tensor([self.label(name) for name in names], device=self.device)
        with nullcontext() if gradients else torch.no_grad():
            return self.generator(latents, label_N, truncation).image

    def sample(
        self,
        seeds: int | Iterable[int],
        classes: str | int | Sequence[str | int] = 0,
        *,
        truncation: float = 1.0,
        noise: Noise = "random",
        device: str | torch.device | None = None,
    ) -> Images:
        """One image per seed: [N, H, W, 3] uint8. One class is that of all images; else there is one per seed.

        Args:
            device: moves the model there first.

        Raises: ValueError for a class that is not there, or another number of classes than of seeds.
        """
        if device is not None:
            self.to(device)
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        each = _beside(seeds, classes)
        looks = [Look((s,), self.pure(c), truncation, noise) for s, c in zip(seeds, each, strict=True)]
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

    @torch.no_grad()
    def walked(self, walk: Walk, truncation: float = 1.0, noise: Noise = "random") -> Iterator[Images]:
        """[H, W, 3] uint8 of each step of a walk, one after the other. Raises ValueError as `interpolate`."""
        ends = [self.generator.latents([key_of(seed)]) for seed in walk.seeds]
        labels = [self.label(name) for name in walk.classes]
        vectors = [self.vector(((label, 1.0),)) for label in labels] if len(labels) > 1 else []
        for at, share in walk.places():
            latents = blended(ends[at], ends[at + 1], share, walk.spherical) if len(ends) > 1 else ends[0]
            if self.transfer is not None and vectors:
                edits = self.transfer.edits_of(walk.between_two(vectors[at], vectors[at + 1], share))
            else:
                edits = self.edits(self.pure(labels[0]))
            yield from self.render([Frame(self.styles(latents, edits, truncation), self.noise(latents, noise), edits)])

    @torch.no_grad()
    def drawn(self, looks: Iterable[Look]) -> Iterator[Images]:
        """[H, W, 3] uint8 of each look, drawn in batches of a bounded size."""
        at_once = 1
        if self.device.type != "cpu":
            at_once = min(AT_ONCE, max(1, PIXELS_AT_ONCE // self.resolution**2))
        for _, alike in groupby(looks, key=lambda look: look.classes):
            while some := list(islice(alike, at_once)):
                # The same shapes at all times: kernels are chosen by them, and round in their own ways.
                padded = some + some[-1:] * (at_once - len(some))
                yield from islice(self.render([self.frame(look) for look in padded]), len(some))

    @torch.no_grad()
    def of_latents(
        self, z_NZ: Tensor, cls: str | int = 0, *, truncation: float = 1.0, noise: Noise = "random"
    ) -> Iterator[Images]:
        """[H, W, 3] uint8 of each latent, under the noise of the seeds 0 to N - 1, drawn one after the other.

        Raises: ValueError for latents of another width.
        """
        if z_NZ.ndim != 2 or z_NZ.shape[1] != self.z_dim:
            raise UserError(f"latents should be [N, {self.z_dim}], got {list(z_NZ.shape)}; they are of another model")
        edits = self.edits(self.pure(cls))
        for place, z_Z in enumerate(z_NZ.to(self.device)):
            latents = self.generator.latents([key_of(place)])._replace(z=z_Z[None], z_mix=z_Z[None])
            yield from self.render([Frame(self.styles(latents, edits, truncation), self.noise(latents, noise), edits)])

    @torch.no_grad()
    def frame(self, look: Look) -> Frame:
        """All but the synthesis of a look."""
        edits = self.edits(look.classes)
        seeds = (*look.seeds, *look.seeds[-1:] * (self.blocks - len(look.seeds)))
        latents = {seed: self.generator.latents([key_of(seed)]) for seed in dict.fromkeys(seeds)}
        styles = {seed: self.styles(each, edits, look.truncation) for seed, each in latents.items()}
        # A backbone may have one style more than blocks.
        last = len(styles[seeds[0]]) - 1
        chosen = [styles[seeds[min(i, len(seeds) - 1)]][i] for i in range(last + 1)]
        return Frame(chosen, self.noise(latents[seeds[0]], look.noise), edits)

    def render(self, frames: Sequence[Frame]) -> Iterator[Images]:
        """[H, W, 3] uint8 of each frame; all have the same edits."""
        styles = [torch.cat(each) for each in zip(*(frame.styles for frame in frames), strict=True)]
        noise = [torch.cat(each) for each in zip(*(frame.noise for frame in frames), strict=True)]
        edits = replace(frames[0].edits, counts=(len(frames),))
        images = to_uint8(self.generator.backbone.synthesise(styles, noise, edits).image)
        return iter(images.permute(0, 2, 3, 1).cpu().numpy())

    def styles(self, latents: Latents, edits: Edits, truncation: float = 1.0) -> list[Tensor]:
        """[1, W] per block of one latent."""
        backbone = self.generator.backbone
        if edits.label_RL is not None:
            z, z_mix = (torch.cat([z, edits.label_RL], 1) for z in (latents.z, latents.z_mix))
            return backbone.styles(latents._replace(z=z, z_mix=z_mix), truncation)
        if truncation == 1.0:
            return backbone.styles(latents)
        if backbone.old_classes():  # whose mean is that of the latent's old class
            return backbone.styles(latents, truncation)
        if self._mean is None:
            self._mean = backbone.styles(latents, 0.0)
        return [torch.lerp(mean, w, truncation) for mean, w in zip(self._mean, backbone.styles(latents), strict=True)]

    def noise(self, latents: Latents, noise: Noise) -> tuple[Tensor, ...]:
        """One [1, 1, H, W] per block."""
        if noise == "const":
            return self.generator.latents([CONST_KEY]).noise
        return latents.noise if noise == "random" else tuple(torch.zeros_like(n) for n in latents.noise)

    def edits(self, classes: tuple[tuple[int, float], ...]) -> Edits:
        """Of a class or a blend; of nothing, the source."""
        if not classes or self.transfer is None:
            return SOURCE
        if classes not in self._edits:
            self._edits[classes] = self.transfer.edits_of(self.vector(classes))
            while len(self._edits) > EDITS_KEPT:
                self._edits.popitem(last=False)
        self._edits.move_to_end(classes)
        return self._edits[classes]

    @torch.no_grad()
    def vector(self, classes: tuple[tuple[int, float], ...]) -> Tensor:
        """[1, E], the blend of the class vectors. Raises ValueError for a generator without classes."""
        if self.transfer is None:
            raise UserError("this generator is unconditional and has no classes to blend; give a transfer")
        label_R = torch.tensor([label for label, _ in classes], device=self.device)
        v_RE = self.transfer.trained["class_net"](label_R)
        if len(classes) == 1:
            return v_RE
        return v_RE.new_tensor([weight for _, weight in classes])[None] @ v_RE

    def label(self, cls: str | int) -> int:
        """The place of a class. Raises ValueError for one that is not there."""
        if isinstance(cls, str):
            if cls not in self.classes:
                raise unknown("class", cls, self.classes)
            return self.classes.index(cls)
        if not 0 <= cls < len(self.classes):
            raise UserError(f"classes are 0 to {len(self.classes) - 1}, got {cls}; or give their names")
        return cls

    def pure(self, cls: str | int) -> tuple[tuple[int, float], ...]:
        """One class alone, for a look."""
        label = self.label(cls)
        return () if self.transfer is None else ((label, 1.0),)

    def source(self) -> Model:
        """The unconditional generator that the classes are edits of; it shares this model's weights."""
        plain = copy.copy(self)
        plain.transfer, plain.classes = None, ("all",)
        return plain

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
