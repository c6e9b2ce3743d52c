"""One function per phase: what D, G and self-alignment minimise. B batch of this rank, or one part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import rng
from hmgan.augment.base import Augment
from hmgan.config.settings import Reconstruction
from hmgan.generators.build import Generator
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.equalized import shared_kernels
from hmgan.losses.adversarial import Adversarial
from hmgan.losses.alignment import alignment_loss
from hmgan.losses.base import Adaptation, GenPenalty
from hmgan.losses.contrastive import Contrastive, Evidence, Pair
from hmgan.losses.emd import earth_mover
from hmgan.losses.feature_nets import FeatureNet, feature_l1
from hmgan.losses.r1 import r1_penalty
from hmgan.losses.regularizer import Regularizer
from hmgan.train.microbatches import Gather, Stats
from hmgan.train.precision import Mixed
from hmgan.types import DiscOut

Terms = dict[str, tuple[float, Tensor]]  # name -> weight and value
DRAWS_PER_Z = 10  # of a normal distribution, that the z of reconstructed images are compared with
# Images in [-1, 1] and one key per image -> two augmentations of each.
Views = Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Rules:
    """What D and G play by: the same in both phases."""

    adversarial: Adversarial
    class_weight: float = 1.0
    class_fakes: bool = True
    augment: Augment | None = None
    mixed: Mixed = nullcontext  # around the networks' passes, and around nothing else
    layout: torch.memory_format = torch.contiguous_format  # of D's maps

    @property
    def compares(self) -> bool:
        """Whether a sample's loss depends on the others of the global batch."""
        # Somebody else's objective need not say that it does not.
        return getattr(self.adversarial, "compares", True)

    @property
    def adapts(self) -> bool:
        return self.augment is not None and self.augment.adapts

    def shown(self, images: Tensor, draws: Draws, stream: str) -> Tensor:
        """What D sees of images."""
        return self.laid_out(images if self.augment is None else self.augment(images, draws.keys(stream)))

    def laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.layout)

    def observe(self, real_B: Tensor, step: int) -> Stats:
        """After D's pass: an augmentation may adapt to D's logits of the reals. What it has to say of itself."""
        return {} if self.augment is None else self.augment.observe(real_B.detach(), step)


@dataclass(frozen=True)
class Penalties:
    """What D minimises besides the adversarial loss."""

    gamma: float
    r1_every: int
    contrastive: Contrastive | None = None
    contrastive_weight: float = 0.0
    views: Views | None = None
    regularizer: Regularizer | None = None

    @property
    def compares(self) -> bool:
        """Whether a sample's loss depends on the others of the global batch."""
        return self.regularizer is not None or (self.contrastive is not None and self.contrastive_weight > 0)


@dataclass(frozen=True)
class Restraint:
    """What G minimises besides the adversarial loss, where a penalty holds it to its source."""

    penalty: GenPenalty
    weight: float

    @property
    def compares(self) -> bool:
        """Whether a sample's penalty depends on the others of the global batch."""
        return self.penalty.least > 1


@dataclass(frozen=True)
class Draws:
    """The random streams of one step, one key per sample of the global batch: any split over ranks draws the same."""

    seed: int
    step: int
    first: int  # global position of the first sample
    batch: int  # of this rank, or of a part of it

    def keys(self, stream: str) -> list[int]:
        return rng.keys(self.seed, stream, self.first, self.batch)

    def common(self, stream: str) -> int:
        """One key for the whole step, on every rank the same."""
        return rng.key(self.seed, stream, self.step)


def as_images(images_u8: Tensor) -> Tensor:
    """uint8 -> [-1, 1], in torch's default dtype.

    Channels apart in memory, whatever the loader has: another layout is another sum's order.
    """
    return images_u8.contiguous().to(torch.get_default_dtype()) / 127.5 - 1


def mirrored(images: Tensor, keys: Sequence[int]) -> Tensor:
    """Flips each image left to right with probability one half."""
    flip_B = (rng.uniform_rows(keys, 1) < 0.5).to(images.device)[:, :, None, None]
    return torch.where(flip_B, images.flip(3), images)


def disc_loss(
    generator: Generator,
    discriminator: nn.Module,
    rules: Rules,
    penalties: Penalties,
    gather: Gather,
    real: Tensor,
    labels: Tensor,
    draws: Draws,
    mixing: float,
) -> tuple[Tensor, Stats]:
    """The adversarial loss (Eq. 8) and D's penalties, each times its weight: lambda_contr of Eq. 9 is one."""
    with torch.no_grad(), rules.mixed():  # made once, and reused for the contrastive views: nothing flows back to G
        fake = generator(generator.latents(draws.keys("disc"), mixing), labels).image
    with shared_kernels():
        return _disc_terms(discriminator, rules, penalties, gather, real, fake, labels, draws)


def _disc_terms(
    discriminator: nn.Module,
    rules: Rules,
    penalties: Penalties,
    gather: Gather,
    real: Tensor,
    fake: Tensor,
    labels: Tensor,
    draws: Draws,
) -> tuple[Tensor, Stats]:
    due = penalties.r1_every > 0 and draws.step % penalties.r1_every == 0
    # Not in a pass that only makes rows for others to be compared with.
    penalised = due and torch.is_grad_enabled()
    real = real.detach().requires_grad_(penalised)
    # Separate passes: one concatenated pass would mix real and fake in the minibatch standard deviation.
    shown_real, shown_fake = rules.shown(real, draws, "augment-real"), rules.shown(fake, draws, "augment-fake")
    with nullcontext() if due else rules.mixed():  # R1's gradient, and its own, are of a pass in float32
        on_real = discriminator(shown_real, labels)
    with rules.mixed():
        on_fake = discriminator(shown_fake, labels)
    real_B, fake_B = gather(torch.stack([on_real.logit, on_fake.logit], 1)).unbind(1)
    terms = {"loss/D": (1.0, rules.adversarial.disc(real_B, fake_B))}
    # Of fakes too, as in the classifier's paper, or not: both networks may then agree on classes of their own.
    judged = {"loss/class-real": on_real} | ({"loss/class-fake": on_fake} if rules.class_fakes else {})
    terms |= classification(judged, labels, rules.class_weight)
    if penalised:
        # One backward for the phase; `every` makes up for the steps without the penalty.
        terms["loss/r1"] = (penalties.r1_every * penalties.gamma / 2, r1_penalty(on_real.logit, real))
    if penalties.regularizer is not None:
        terms["loss/regularizer"] = (penalties.regularizer.weight, penalties.regularizer(real_B, fake_B))
    if penalties.contrastive is not None and penalties.contrastive_weight > 0:

        def two_views(images: Tensor, stream: str) -> Pair:
            assert penalties.views is not None
            # Of the images as they came: views are augmentations themselves.
            pair = penalties.views(images.detach(), draws.keys(stream))
            # Two in a pass: four would hold larger gradients at once.
            with rules.mixed():
                embedding_VF = discriminator(rules.laid_out(torch.cat(pair)), labels.repeat(2), batches=2).embedding
            first, second = embedding_VF.chunk(2)
            return gather(first), gather(second)

        evidence = Evidence(real_B, fake_B, lambda: (two_views(real, "views-real"), two_views(fake, "views-fake")))
        terms["loss/contrastive"] = (penalties.contrastive_weight, penalties.contrastive(evidence))
    loss, stats = weighed(terms)
    return loss, stats | {"score/real": real_B.mean(), "score/fake": fake_B.mean()} | rules.observe(real_B, draws.step)


def gen_loss(
    generator: Generator,
    discriminator: nn.Module,
    rules: Rules,
    gather: Gather,
    real: Tensor,
    labels: Tensor,
    draws: Draws,
    mixing: float,
    restraint: Restraint | None = None,
) -> tuple[Tensor, Stats]:
    """The adversarial loss for G (Eq. 8), on fakes of its own, and what its modulation or its source adds."""
    latents = generator.latents(draws.keys("gen"), mixing)
    with rules.mixed():
        out = generator(latents, labels)
    shown = rules.shown(out.image, draws, "augment-gen")
    with rules.mixed():
        on_fake = discriminator(shown, labels)

    def reals() -> Tensor:
        with torch.no_grad():
            shown_real = rules.shown(real, draws, "augment-gen-real")
            with rules.mixed():
                logit_B = discriminator(shown_real, labels).logit
            return gather(logit_B)

    terms = {"loss/G": (1.0, rules.adversarial.gen(gather(on_fake.logit), reals))}
    terms |= classification({"loss/class-gen": on_fake}, labels, rules.class_weight)
    if restraint is not None and restraint.weight > 0:
        phase = Adaptation(latents, out, draws.common("gen-penalty"), gather)
        terms["loss/gen-penalty"] = (restraint.weight, restraint.penalty(phase))
    return weighed(terms | {name: (1.0, value) for name, value in generator.penalties().items()})


def classification(outs: Mapping[str, DiscOut], labels: Tensor, weight: float) -> Terms:
    """-log P(own class | image), AC-GAN's Eq. 3, of each; nothing where D has no auxiliary classifier."""
    return {
        name: (weight, F.cross_entropy(out.class_logits, labels))
        for name, out in outs.items()
        if out.class_logits is not None
    }


def weighed(terms: Terms) -> tuple[Tensor, Stats]:
    """The sum of weight times value, and the values by name."""
    total = reduce(torch.add, [weight * value for weight, value in terms.values()])
    return total, {name: value for name, (_, value) in terms.items()}


def align_loss(
    generator: TransferGenerator, labels: Tensor, draws: Draws, mixed: Mixed = nullcontext
) -> tuple[Tensor, Stats]:
    """Eq. 6: the same latents through the source and through the transfer generator, features compared per block."""
    latents = generator.latents(draws.keys("align"))
    with torch.no_grad(), mixed():
        source = generator.source(latents)
    with mixed():
        transferred = generator(latents, labels)
    loss = alignment_loss(source.features, transferred.features)
    return loss, {"loss/align": loss}


def reconstruction_loss(
    generator: Generator,
    settings: Reconstruction,
    feature_net: FeatureNet | None,
    gather: Gather,
    real: Tensor,
    labels: Tensor,
    draws: Draws,
    z_BZ: Tensor,
    mixed: Mixed = nullcontext,
) -> tuple[Tensor, Stats]:
    """Each image against what G makes of its own z, by pixels and by features, and all z against a normal distribution.

    Noguchi & Harada 2019; its penalty on scales and shifts is the modulation's own.
    """
    latents = generator.latents(draws.keys("reconstruction"))
    with mixed():
        image = generator(latents._replace(z=z_BZ + settings.spread * latents.z), labels).image
    terms = {"loss/image": (1.0, F.l1_loss(image, real))}
    if feature_net is not None:
        with torch.no_grad():
            wanted = feature_net(real)
        terms["loss/perceptual"] = (settings.perceptual_weight, feature_l1(feature_net(image), wanted))
    width = z_BZ.shape[1]
    normal_MZ = gather(rng.normal_rows(draws.keys("emd"), DRAWS_PER_Z * width).to(z_BZ)).view(-1, width)
    terms["loss/emd"] = (settings.emd_weight, earth_mover(gather(z_BZ), normal_MZ))
    return weighed(terms | {name: (1.0, value) for name, value in generator.penalties().items()})
