"""What losses are given, and what they return. B spans all ranks; F features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import Edits
from hmgan.types import GenOut, Latents

Pair = tuple[Tensor, Tensor]


class Evidence(NamedTuple):
    """The D phase's results, gathered over the ranks. Views are a function, since they cost D four batches."""

    real_logit_B: Tensor
    fake_logit_B: Tensor
    views: Callable[[], tuple[Pair, Pair]]  # -> embeddings [B, F] of two augmentations of the reals, and of the fakes
    total: Callable[[Tensor], Tensor] | None = None  # the sum over ranks; with it, views hold this rank's rows alone


class Contrastive(Protocol):
    """A loss on D. `weight` is lambda_contr of Eq. 9."""

    weight: float
    by_sums: ClassVar[bool]  # whether it takes a `total`, on many ranks; not declared, it does not
    uses_views: ClassVar[bool]  # whether it asks for views; not declared, it may

    def __call__(self, evidence: Evidence) -> Tensor: ...


class Regularizer(Protocol):
    """A loss on D's logits, and a module: what it remembers between steps is in buffers, which checkpoints hold."""

    weight: float

    def __call__(self, real_B: Tensor, fake_B: Tensor) -> Tensor: ...


class Transferred(NamedTuple):
    """Both networks as they came, frozen, and the generator that trains."""

    source: Backbone
    discriminator: nn.Module  # with one class
    adapted: nn.Module


class Adaptation(NamedTuple):
    """One G phase: its latents, what G made of them, and what a penalty needs besides."""

    latents: Latents
    out: GenOut
    labels_B: Tensor
    key: int  # a random number of the step, the same on every rank
    gather: Callable[[Tensor], Tensor]  # [B, ...] of this rank -> of all ranks
    generator: Any  # which made `out`; with a modulation it is a `Conditioned`
    say: Callable[[str], None]  # takes a line for the log


class Conditioned(Protocol):
    """A generator whose classes are edits of a source."""

    def class_vectors(self, labels_R: Tensor) -> Tensor: ...
    def edits_of(self, v_RE: Tensor) -> Edits: ...
    def render(self, latents: Latents, edits: Edits, row_B: Tensor) -> GenOut: ...


class GenPenalty(Protocol):
    """A loss on G beside the game. One that holds G to its source is built from `Transferred`, others from nothing."""

    copies: bool  # whether it needs `Transferred`, for which both networks are copied
    least: int  # samples in the smallest global batch; with more than 1 it compares samples
    weight: float

    def __call__(self, phase: Adaptation) -> Tensor: ...


# What a penalty on fine-tuning excludes.
OF_FINE_TUNING = {
    "modulation": "is for fine-tuning, which is a transfer without class_net and modulation",
    "backbone": "is for fine-tuning a source",
    "discriminator": "looks at the source through its own discriminator",
}
