"""One function per phase: what D, G and self-alignment minimise. B batch of this rank."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import rng
from hmgan.assemble import Generator
from hmgan.losses.adversarial import Adversarial
from hmgan.losses.alignment import alignment_loss
from hmgan.losses.contrastive import Contrastive, Evidence
from hmgan.losses.r1 import r1_penalty
from hmgan.modulation.transfer import TransferGenerator
from hmgan.train.runtime import Runtime
from hmgan.types import DiscOut

Stats = dict[str, Tensor]
# Images in [-1, 1] and one key per image -> two augmentations of each.
Views = Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Rules:
    """What D and G play by: the same in both phases."""

    adversarial: Adversarial
    class_weight: float = 1.0


@dataclass(frozen=True)
class Penalties:
    """What D minimises besides the adversarial loss."""

    gamma: float
    r1_every: int
    contrastive: Contrastive | None = None
    contrastive_weight: float = 0.0
    views: Views | None = None


@dataclass(frozen=True)
class Draws:
    """The random streams of one step, one key per sample of the global batch: any split over ranks draws the same."""

    seed: int
    step: int
    first: int  # global position of this rank's first sample
    batch: int  # of this rank

    def keys(self, stream: str) -> list[int]:
        return rng.keys(self.seed, stream, self.first, self.batch)


def as_images(images_u8: Tensor) -> Tensor:
    """uint8 -> [-1, 1]."""
    return images_u8.float() / 127.5 - 1


def mirrored(images: Tensor, keys: Sequence[int]) -> Tensor:
    """Flips each image left to right with probability one half."""
    flip_B = (rng.uniform_rows(keys, 1) < 0.5).to(images.device)[:, :, None, None]
    return torch.where(flip_B, images.flip(3), images)


def disc_loss(
    generator: Generator,
    discriminator: nn.Module,
    rules: Rules,
    penalties: Penalties,
    runtime: Runtime,
    real: Tensor,
    labels: Tensor,
    draws: Draws,
    mixing: float,
) -> tuple[Tensor, Stats]:
    """Eq. 8 for D, R1 on its steps, and lambda_contr times the contrastive loss on real and fake (Eq. 9)."""
    with torch.no_grad():  # made once, and reused for the contrastive views: nothing flows back to G
        fake = generator(generator.latents(draws.keys("disc"), mixing), labels).image
    penalised = penalties.r1_every > 0 and draws.step % penalties.r1_every == 0
    real = real.detach().requires_grad_(penalised)
    # Separate passes: one concatenated pass would mix real and fake in the minibatch standard deviation.
    on_real, on_fake = discriminator(real, labels), discriminator(fake, labels)
    loss = rules.adversarial.disc(on_real.logit, on_fake.logit)
    stats = {"loss/D": loss, "score/real": on_real.logit.mean(), "score/fake": on_fake.logit.mean()}
    # Of fakes too, as the paper has it (Odena et al. 2017, Eq. 3): D and G are both pulled to the right class.
    class_loss, classified = class_losses({"loss/class-real": on_real, "loss/class-fake": on_fake}, labels)
    loss, stats = loss + rules.class_weight * class_loss, stats | classified
    if penalised:
        penalty = r1_penalty(on_real.logit, real)
        # One backward for the phase; `every` makes up for the steps without the penalty.
        loss = loss + penalties.r1_every * penalties.gamma / 2 * penalty
        stats["loss/r1"] = penalty
    if penalties.contrastive is not None and penalties.contrastive_weight > 0:

        def two_views(images: Tensor, stream: str) -> tuple[Tensor, Tensor]:
            assert penalties.views is not None
            pair = penalties.views(images.detach(), draws.keys(stream))
            # Both in one pass, which makes D's effective weights once.
            embedding_VF = discriminator(torch.cat(pair), labels.repeat(2), batches=2).embedding
            first, second = embedding_VF.chunk(2)
            return runtime.gather(first), runtime.gather(second)

        contrast = penalties.contrastive(
            Evidence(
                runtime.gather(on_real.logit),
                runtime.gather(on_fake.logit),
                lambda: two_views(real, "views-real"),
                lambda: two_views(fake, "views-fake"),
            )
        )
        loss = loss + penalties.contrastive_weight * contrast
        stats["loss/contrastive"] = contrast
    return loss, stats


def gen_loss(
    generator: Generator,
    discriminator: nn.Module,
    rules: Rules,
    labels: Tensor,
    draws: Draws,
    mixing: float,
) -> tuple[Tensor, Stats]:
    """Eq. 8 for G, on fakes of its own, and what its modulation adds."""
    fake = generator(generator.latents(draws.keys("gen"), mixing), labels).image
    on_fake = discriminator(fake, labels)
    loss = rules.adversarial.gen(on_fake.logit)
    class_loss, classified = class_losses({"loss/class-gen": on_fake}, labels)
    penalties = generator.penalties()
    total = sum(penalties.values(), loss + rules.class_weight * class_loss)
    return total, {"loss/G": loss, **classified, **penalties}


def class_losses(outs: Mapping[str, DiscOut], labels: Tensor) -> tuple[Tensor | float, Stats]:
    """The sum of -log P(c | image), each under its name; nothing where D has no auxiliary classifier."""
    losses = {n: F.cross_entropy(out.class_logits, labels) for n, out in outs.items() if out.class_logits is not None}
    return sum(losses.values(), 0.0), losses


def align_loss(generator: TransferGenerator, labels: Tensor, draws: Draws) -> tuple[Tensor, Stats]:
    """Eq. 6: the same latents through the source and through the transfer generator, features compared per block."""
    latents = generator.latents(draws.keys("align"))
    with torch.no_grad():
        source = generator.source(latents)
    loss = alignment_loss(source.features, generator(latents, labels).features)
    return loss, {"loss/align": loss}
