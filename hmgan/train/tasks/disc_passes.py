"""What D makes of reals, fakes, and two views of each: pass by pass, or in one. B batch, F embedding width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hmgan.train.precision import Mixed
from hmgan.types import DiscOut


class Judge(Protocol):
    """What these passes need of D: images, labels, and how many batches they are."""

    def __call__(self, images: Tensor, labels_B: Tensor, batches: int = 1, /) -> DiscOut: ...


class Shown(NamedTuple):
    """The images of D's phase, as D sees them; views are made where they are asked for, two of each image."""

    real: Tensor  # [B, 3, H, W]
    fake: Tensor
    labels: Tensor  # [B], of either
    real_views: Callable[[], Tensor]  # -> [2 B, 3, H, W], all first views before all second ones
    fake_views: Callable[[], Tensor]


class Judged(NamedTuple):
    """What D makes of them; embeddings of views, [2 B, F], where they are asked for."""

    real: DiscOut
    fake: DiscOut
    real_views: Callable[[], Tensor]
    fake_views: Callable[[], Tensor]


def apart(judge: Judge, shown: Shown, mixed: Mixed, real_mixed: Mixed | None = None) -> Judged:
    """A pass for each, and one for the two views of each: four at once would hold larger gradients.

    Args:
        mixed: around each pass.
        real_mixed: around that over the reals, where it is another one.
    """
    with (real_mixed or mixed)():
        on_real = judge(shown.real, shown.labels)
    with mixed():
        on_fake = judge(shown.fake, shown.labels)

    def embeddings(views: Callable[[], Tensor]) -> Tensor:
        images = views()
        with mixed():
            return judge(images, shown.labels.repeat(2), 2).embedding

    return Judged(on_real, on_fake, lambda: embeddings(shown.real_views), lambda: embeddings(shown.fake_views))


def at_once(judge: Judge, shown: Shown, mixed: Mixed, viewed: bool) -> Judged:
    """One pass over all of them, whose batches stay apart where D compares samples.

    Args:
        mixed: around the pass.
        viewed: whether views will be asked for.
    """
    batches = [shown.real, shown.fake]
    if viewed:
        batches += [*shown.real_views().chunk(2), *shown.fake_views().chunk(2)]
    count = len(batches)
    with mixed():
        out = judge(torch.cat(batches), shown.labels.repeat(count), count)
    on_real, on_fake, *on_views = split(out, count)

    def embeddings(views: Sequence[DiscOut]) -> Tensor:
        return torch.cat([each.embedding for each in views])

    return Judged(on_real, on_fake, lambda: embeddings(on_views[:2]), lambda: embeddings(on_views[2:]))


def split(out: DiscOut, count: int) -> list[DiscOut]:
    """Of a pass over so many batches, what D makes of each."""
    logits, embeddings = out.logit.chunk(count), out.embedding.chunk(count)
    class_logits = [None] * count if out.class_logits is None else out.class_logits.chunk(count)
    return [DiscOut(*each) for each in zip(logits, embeddings, class_logits, strict=True)]
