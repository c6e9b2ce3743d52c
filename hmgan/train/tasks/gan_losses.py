"""What D and G minimise in a step of their game. B batch of this rank, or a microbatch of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from hmgan.augment.base import Augment
from hmgan.discriminators.heads import Head
from hmgan.layers.equalized import shared_kernels
from hmgan.losses.adversarial import Adversarial
from hmgan.losses.base import Adaptation, Contrastive, Evidence, GenPenalty, Pair, Regularizer
from hmgan.losses.path_length import PathLength, path_lengths
from hmgan.losses.r1 import r1_penalty
from hmgan.train.draws import Draws, Microbatch
from hmgan.train.precision import Mixed
from hmgan.train.tasks.base import Gather, Stats
from hmgan.types import GenOut, Latents, Terms

# Images in [-1, 1] and one key per image -> two augmentations of each.
Views = Callable[[Tensor, Sequence[int]], tuple[Tensor, Tensor]]


class AnyGenerator(Protocol):
    """What these losses need of G."""

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents: ...
    def penalties(self) -> Mapping[str, Tensor]: ...
    def __call__(self, latents: Latents, labels_B: Tensor, /) -> GenOut: ...


class Opponents(NamedTuple):
    """The two networks of one step."""

    generator: AnyGenerator
    discriminator: nn.Module
    frozen: Sequence[nn.Parameter] = ()  # of D, in this step


@dataclass(frozen=True)
class Rules:
    """What both phases of a step share."""

    adversarial: Adversarial
    head: Head
    mixing: float = 0.0  # probability of style mixing
    augment: Augment | None = None
    mixed: Mixed = nullcontext  # around the networks' passes, and around nothing else
    layout: torch.memory_format = torch.contiguous_format  # of D's maps

    def shown(self, images: Tensor, draws: Draws, stream: str) -> Tensor:
        """Images as D sees them."""
        return self.laid_out(images if self.augment is None else self.augment(images, draws.keys(stream)))

    def laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=self.layout)

    def observe(self, real_B: Tensor, step: int) -> Stats:
        """After D's pass: an augmentation may adapt to D's logits of the reals. Returns what it reports."""
        return {} if self.augment is None else self.augment.observe(real_B.detach(), step)


@dataclass(frozen=True)
class Penalties:
    """What D minimises besides the adversarial loss."""

    gamma: float
    r1_every: int
    contrastive: Contrastive | None = None
    views: Views | None = None
    regularizer: Regularizer | None = None
    total: Callable[[Tensor], Tensor] | None = None  # the sum over ranks, where views' rows are not gathered

    @property
    def compares(self) -> bool:
        """Whether a sample's loss depends on the others of the global batch."""
        return self.regularizer is not None or (self.contrastive is not None and self.contrastive.weight > 0)


def disc_loss(
    opponents: Opponents, rules: Rules, penalties: Penalties, microbatch: Microbatch, gather: Gather
) -> tuple[Tensor, Stats]:
    """The adversarial loss (Eq. 8) and D's penalties, each times its weight: lambda_contr of Eq. 9 is one."""
    with torch.no_grad(), rules.mixed():  # made once, and reused for the contrastive views: nothing flows back to G
        generator = opponents.generator
        fake = generator(generator.latents(microbatch.draws.keys("disc"), rules.mixing), microbatch.labels).image
    with shared_kernels():
        return _disc_terms(opponents.discriminator, rules, penalties, microbatch, gather, fake)


def _disc_terms(
    discriminator: nn.Module, rules: Rules, penalties: Penalties, microbatch: Microbatch, gather: Gather, fake: Tensor
) -> tuple[Tensor, Stats]:
    real, labels, draws = microbatch
    due = penalties.r1_every > 0 and draws.step % penalties.r1_every == 0
    # Not in the pass that only fills the cache of rows.
    penalised = due and torch.is_grad_enabled()
    real = real.detach().requires_grad_(penalised)
    # Separate passes: one concatenated pass would mix real and fake in the minibatch standard deviation.
    shown_real, shown_fake = rules.shown(real, draws, "augment-real"), rules.shown(fake, draws, "augment-fake")
    with nullcontext() if due else rules.mixed():  # R1 differentiates this pass twice, in float32
        on_real = discriminator(shown_real, labels)
    with rules.mixed():
        on_fake = discriminator(shown_fake, labels)
    real_B, fake_B = gather(torch.stack([on_real.logit, on_fake.logit], 1)).unbind(1)
    terms = {"loss/D": (1.0, rules.adversarial.disc(real_B, fake_B))}
    terms |= rules.head.terms(on_real, labels, "real") | rules.head.terms(on_fake, labels, "fake")
    if penalised:
        # One backward for the phase; `every` makes up for the steps without the penalty.
        terms["loss/r1"] = (
            penalties.r1_every * penalties.gamma / 2,
            r1_penalty(rules.head.penalised(on_real, labels), real),
        )
    if penalties.regularizer is not None:
        terms["loss/regularizer"] = (penalties.regularizer.weight, penalties.regularizer(real_B, fake_B))
    if penalties.contrastive is not None and penalties.contrastive.weight > 0:

        def two_views(images: Tensor, stream: str) -> Pair:
            assert penalties.views is not None
            # Of images without augmentation: views are augmentations themselves.
            pair = penalties.views(images.detach(), draws.keys(stream))
            # Two to a pass: four would hold larger gradients at once.
            with rules.mixed():
                embedding_VF = discriminator(rules.laid_out(torch.cat(pair)), labels.repeat(2), batches=2).embedding
            first, second = embedding_VF.chunk(2)
            return (gather(first), gather(second)) if penalties.total is None else (first, second)

        evidence = Evidence(
            real_B,
            fake_B,
            lambda: (two_views(real, "views-real"), two_views(fake, "views-fake")),
            penalties.total,
        )
        terms["loss/contrastive"] = (penalties.contrastive.weight, penalties.contrastive(evidence))
    loss, stats = weighed(terms)
    return loss, stats | {"score/real": real_B.mean(), "score/fake": fake_B.mean()} | rules.observe(real_B, draws.step)


def gen_loss(
    opponents: Opponents,
    rules: Rules,
    penalty: GenPenalty | None,
    path: PathLength | None,
    say: Callable[[str], None],
    microbatch: Microbatch,
    gather: Gather,
) -> tuple[Tensor, Stats]:
    """The adversarial loss for G (Eq. 8), on fakes of its own, and what its modulation or a penalty adds."""
    (generator, discriminator, _), (real, labels, draws) = opponents, microbatch
    latents = generator.latents(draws.keys("gen"), rules.mixing)
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
    terms |= rules.head.terms(on_fake, labels, "gen")
    if penalty is not None and penalty.weight > 0:
        phase = Adaptation(latents, out, labels, draws.common("gen-penalty"), gather, generator, say)
        terms["loss/gen-penalty"] = (penalty.weight, penalty(phase))
    if path is not None:
        drawn = generator.latents(draws.keys("path"), rules.mixing)
        # Where the mapping is frozen, no style would have a gradient otherwise. In float32: it is differentiated twice.
        made = generator(drawn._replace(z=drawn.z.detach().requires_grad_()), labels)
        lengths_B = gather(path_lengths(made.image, made.styles, draws.keys("path-noise")))
        terms["loss/path"] = (path.every * path.weight, path(lengths_B))
    return weighed(terms | {name: (1.0, value) for name, value in generator.penalties().items()})


def weighed(terms: Terms) -> tuple[Tensor, Stats]:
    """The sum of weight times value, and the values by name."""
    total = reduce(torch.add, [weight * value for weight, value in terms.values()])
    return total, {name: value for name, (_, value) in terms.items()}
