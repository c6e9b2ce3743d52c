"""How a model draws: frames of styles, noise and edits. N images, K blocks, Z latent, W style, E class vector."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, islice
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmgan import rng
from hmgan.errors import UserError, unknown
from hmgan.generators.snapshot import Loaded
from hmgan.layers.edits import SOURCE, Edits
from hmgan.models.looks import Look, Noise, Towards, key_of
from hmgan.models.walks import Walk, blended
from hmgan.pictures.class_images import best_device
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


class Drawing:
    """A generator that draws looks, walks and latents, one image at a time or in batches of one size."""

    def __init__(self, loaded: Loaded, device: str | torch.device | None = None) -> None:
        self.generator = loaded.generator.eval()
        self.classes: tuple[str, ...] = loaded.classes
        self.config: dict[str, Any] = loaded.config
        self.transfer = loaded.transfer
        self.centres = dict(loaded.centres)
        self._edits: OrderedDict[tuple[tuple[int, float], ...], Edits] = OrderedDict()
        self._mean: list[Tensor] | None = None
        self.to(device or best_device())

    def to(self, device: str | torch.device) -> Self:
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
        self,
        latents_N: Tensor,
        cls: str | int = 0,
        *,
        truncation: float = 1.0,
        noise: Noise = "random",
        towards: Towards = "mean",
    ) -> Iterator[Images]:
        """[H, W, 3] uint8 of each latent [N, Z] or of each image's styles [N, K, W], drawn one after the other.

        The noise is that of the seeds 0 to N - 1. Raises: ValueError for latents of another shape.
        """
        self.check_latents(latents_N)
        classes = self.pure(cls)
        edits, centre = self.edits(classes), self.centre(classes, truncation, towards)
        for place, one in enumerate(latents_N.to(self.device)):
            latents = self.generator.latents([key_of(place)])
            if latents_N.ndim == 3:
                styles = self.given(one, edits, truncation, centre)
            else:
                latents = latents._replace(z=one[None], z_mix=one[None])
                styles = self.styles(latents, edits, truncation, centre)
            yield from self.render([Frame(styles, self.noise(latents, noise), edits)])

    def check_latents(self, latents_N: Tensor) -> None:
        """Raises ValueError unless they are [N, Z] or [N, K, W] of this model."""
        if latents_N.shape[1:] == (self.z_dim,):
            return
        with torch.no_grad():
            styles = self.styles(self.generator.latents([0]), self.edits(self.pure(0)))
        widths = {w.shape[1] for w in styles}
        if latents_N.shape[1:] not in {(len(styles), width) for width in widths} or len(widths) > 1:
            wanted = f"[N, {self.z_dim}], or styles [N, {len(styles)}, {max(widths)}]"
            raise UserError(f"latents should be {wanted}, got {list(latents_N.shape)}; they are of another model")

    @torch.no_grad()
    def frame(self, look: Look) -> Frame:
        """All but the synthesis of a look."""
        edits, centre = self.edits(look.classes), self.centre(look.classes, look.truncation, look.towards)
        seeds = (*look.seeds, *look.seeds[-1:] * (self.blocks - len(look.seeds)))
        latents = {seed: self.generator.latents([key_of(seed)]) for seed in dict.fromkeys(seeds)}
        styles = {seed: self.styles(each, edits, look.truncation, centre) for seed, each in latents.items()}
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

    def styles(
        self, latents: Latents, edits: Edits, truncation: float = 1.0, centre: list[Tensor] | None = None
    ) -> list[Tensor]:
        """[1, W] per block of one latent, pulled towards a centre of its class, or the mean of all."""
        if centre is not None:
            return truncated(self.styles(latents, edits), truncation, centre)
        backbone = self.generator.backbone
        if edits.label_RL is not None:
            return backbone.styles(backbone.labelled(latents, edits.label_RL), truncation)
        if truncation == 1.0:
            return backbone.styles(latents)
        if backbone.old_classes():  # whose mean is that of the latent's old class
            return backbone.styles(latents, truncation)
        if self._mean is None:
            self._mean = backbone.styles(latents, 0.0)
        return truncated(backbone.styles(latents), truncation, self._mean)

    def given(
        self, styles_KW: Tensor, edits: Edits, truncation: float = 1.0, centre: list[Tensor] | None = None
    ) -> list[Tensor]:
        """[1, W] per block of styles that come from elsewhere, pulled towards a centre, or the mean of all."""
        if centre is None and truncation != 1.0:
            with torch.no_grad():
                centre = self.styles(self.generator.latents([0]), edits, 0.0)
        return truncated(list(styles_KW[:, None]), truncation, centre or [])

    def centre(
        self, classes: tuple[tuple[int, float], ...], truncation: float, towards: Towards
    ) -> list[Tensor] | None:
        """[1, W] per block, of a class or a blend; None where it is the mean of all, or nothing is truncated.

        Raises: ValueError for a class whose centre is not kept.
        """
        if towards == "mean" or truncation == 1.0:
            return None
        if self.transfer is not None and not classes:  # the source
            return None
        shares = {self.classes[label]: weight for label, weight in classes or ((0, 1.0),)}
        for name in shares:
            if name not in self.centres:
                raise UserError(f"no centre of class {name!r} is kept; find it with hmgan centres, of a run with its D")
        centre_KW = torch.stack([weight * self.centres[name] for name, weight in shares.items()]).sum(0)
        return list(centre_KW.to(self.device)[:, None])

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


def truncated(styles: list[Tensor], truncation: float, centre: list[Tensor]) -> list[Tensor]:
    """[1, W] per block, pulled towards a centre; at 1 as they are."""
    if truncation == 1.0:
        return styles
    return [torch.lerp(near, w, truncation) for near, w in zip(centre, styles, strict=True)]
