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
from hmgan.train.tasks.disc_passes import Judge, Judged, Shown, apart, at_once
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
    judge: Judge | None = None  # in place of D, for one pass with gradients at a time
    draw: Callable[[Latents, Tensor], GenOut] | None = None  # in place of G, likewise; images alone


@dataclass(frozen=True)
class Rules:
    """What both phases of a step share."""

    adversarial: Adversarial
    head: Head
    mixing: float = 0.0  # probability of style mixing
    augment: Augment | None = None
    mixed: Mixed = nullcontext  # around the networks' passes, and around nothing else
    layout: torch.memory_format = torch.contiguous_format  # of D's maps
    merge: bool = False  # whether D sees all that it judges in a step without R1 in one pass

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

    @property
    def viewed(self) -> bool:
        """Whether D judges views, too; a contrastive loss from another package may not declare that it needs none."""
        loss = self.contrastive
        return loss is not None and loss.weight > 0 and getattr(loss, "uses_views", True)


def disc_loss(
    opponents: Opponents, rules: Rules, penalties: Penalties, microbatch: Microbatch, gather: Gather
) -> tuple[Tensor, Stats]:
    """The adversarial loss (Eq. 8) and D's penalties, each times its weight: lambda_contr of Eq. 9 is one."""
    with torch.no_grad(), rules.mixed():  # made once, and reused for the contrastive views: nothing flows back to G
        generator = opponents.generator
        latents = generator.latents(microbatch.draws.keys("disc"), rules.mixing)
        fake = (opponents.draw or generator)(latents, microbatch.labels).image
    with shared_kernels():
        return _disc_terms(opponents, rules, penalties, microbatch, gather, fake)


def _disc_terms(
    opponents: Opponents, rules: Rules, penalties: Penalties, microbatch: Microbatch, gather: Gather, fake: Tensor
) -> tuple[Tensor, Stats]:
    labels, step = microbatch.labels, microbatch.draws.step
    due = penalties.r1_every > 0 and step % penalties.r1_every == 0
    # Not in the pass that only fills the cache of rows.
    penalised = due and torch.is_grad_enabled()
    real = microbatch.real.detach().requires_grad_(penalised)
    judged = _judged(opponents, rules, penalties, microbatch._replace(real=real), fake, due)
    on_real, on_fake = judged.real, judged.fake
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

        def two_views(embedding_VF: Tensor) -> Pair:
            first, second = embedding_VF.chunk(2)
            return (gather(first), gather(second)) if penalties.total is None else (first, second)

        evidence = Evidence(
            real_B,
            fake_B,
            lambda: (two_views(judged.real_views()), two_views(judged.fake_views())),
            penalties.total,
        )
        terms["loss/contrastive"] = (penalties.contrastive.weight, penalties.contrastive(evidence))
    loss, stats = weighed(terms)
    return loss, stats | {"score/real": real_B.mean(), "score/fake": fake_B.mean()} | rules.observe(real_B, step)


def _judged(
    opponents: Opponents, rules: Rules, penalties: Penalties, microbatch: Microbatch, fake: Tensor, due: bool
) -> Judged:
    """What D makes of the images: those of a step with R1, which differentiates the reals' pass twice, in passes."""
    real, labels, draws = microbatch

    def views(images: Tensor, stream: str) -> Tensor:
        assert penalties.views is not None
        # Of images without augmentation: views are augmentations themselves.
        return rules.laid_out(torch.cat(penalties.views(images.detach(), draws.keys(stream))))

    shown = Shown(
        rules.shown(real, draws, "augment-real"),
        rules.shown(fake, draws, "augment-fake"),
        labels,
        lambda: views(real, "views-real"),
        lambda: views(fake, "views-fake"),
    )
    if rules.merge and not due:
        return at_once(opponents.judge or opponents.discriminator, shown, rules.mixed, penalties.viewed)
    # Apart: in a pass of both, reals and fakes would mix in the minibatch deviation of a D that has no batches.
    return apart(opponents.discriminator, shown, rules.mixed, nullcontext if due else None)  # R1 is in float32


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
    (generator, discriminator, _, judge, draw), (real, labels, draws) = opponents, microbatch
    latents = generator.latents(draws.keys("gen"), rules.mixing)
    with rules.mixed():
        out = (draw or generator)(latents, labels)
    shown = rules.shown(out.image, draws, "augment-gen")
    with rules.mixed():
        on_fake = (judge or discriminator)(shown, labels)

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
