"""Scores that need the generator itself, not only features of its images: diversity, path length, leakage.

B batch, P pairs, H/W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from hmgan import rng
from hmgan.data.images import Images
from hmgan.errors import UserError
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.features import extract
from hmgan.evaluation.paths import EPSILON, path_lengths, trimmed_mean
from hmgan.evaluation.score import MEAN, Score, with_mean
from hmgan.generators.transfer import TransferGenerator
from hmgan.metrics.features import Extractor, SideBySide
from hmgan.metrics.leakage import RIDGE, class_kept, class_kept_of_reals, style_alike, style_kept
from hmgan.metrics.networks import load_perceptual
from hmgan.metrics.perceptual import Perceptual

PAIRS = 500  # of images per class, for diversity
PATHS = 5000  # the paper's number of pairs
STYLES = 1000  # draws of z per class, for leakage
PAIR_BATCH = 16


class Space(NamedTuple):
    """An extractor's features of both sides, by class: [N, F] and [M, F]."""

    extractor: Extractor
    reals: Mapping[str, Tensor]
    fakes: Mapping[str, Tensor]


class Subject(NamedTuple):
    """A generator's fakes, what they are compared with, and by which networks."""

    fakes: Fakes
    reals: Images
    spaces: Sequence[Space]
    perceptual: str  # a name of `load_perceptual`
    device: torch.device


def diversity(subject: Subject) -> list[Score]:
    """Mean perceptual distance over disjoint pairs of one class, of fakes and of reals, drawn by seed."""
    distance = load_perceptual(subject.perceptual).to(subject.device)
    scores = []
    for name, images_of in (("diversity", _fake_images), ("diversity-reals", _real_images)):
        rows = []
        for label, cls in enumerate(subject.fakes.classes):
            values_P = pair_distances(images_of(subject, label), distance, subject.device)
            count = 2 * len(values_P)
            counts = (0, count) if name == "diversity" else (count, 0)
            value, protocol = float(values_P.double().mean()), f"{len(values_P)} disjoint pairs"
            rows.append(Score.by(distance, f"{name}-{distance.name}", cls, value, counts, protocol))
        scores += with_mean(rows)
    return scores


def pair_distances(batches: Iterable[Tensor], distance: Perceptual, device: torch.device) -> Tensor:
    """[P]: of the first and second image, the third and fourth, and so on; a last one without a partner is left out."""
    images_B3HW = torch.cat(list(batches))
    last = len(images_B3HW) // 2 * 2
    pairs = zip(images_B3HW[:last:2].split(PAIR_BATCH), images_B3HW[1:last:2].split(PAIR_BATCH), strict=True)
    with torch.no_grad():
        return torch.cat([distance(a.to(device).float(), b.to(device).float()).cpu() for a, b in pairs])


def path_length(subject: Subject) -> list[Score]:
    """Perceptual path length from class to class, full and end: one number each, over all pairs of classes."""
    distance = load_perceptual(subject.perceptual, torch.float64).to(subject.device)
    fakes, classes = subject.fakes, len(subject.fakes.classes)
    pairs = min(PATHS, fakes.per_class * classes)
    generator = cast(TransferGenerator, fakes.generator)  # `check_classes` has seen to it: no other has several classes
    scores = []
    for mode, t in (("full", "U(0,1)"), ("end", "0")):
        lengths_P = path_lengths(
            generator, distance, classes, end=mode == "end", pairs=pairs, seed=fakes.seed, truncation=fakes.truncation
        )
        protocol = (
            f"{pairs} pairs, epsilon {EPSILON:g}, t = {t}, class vectors linear, same z and noise, [1%, 99%], "
            "generator in float64"
        )
        metric = f"path-{mode}-{distance.name}"
        scores.append(Score.by(distance, metric, MEAN, trimmed_mean(lengths_P), (0, 2 * pairs), protocol))
    return scores


def leakage(subject: Subject) -> list[Score]:
    """Whether z keeps the class and the class keeps the style, in 0..1."""
    drawn = range(min(STYLES, subject.fakes.per_class))
    networks = SideBySide([space.extractor for space in subject.spaces])
    styles = {
        cls: extract(subject.fakes.batches(label, drawn, shared_style=True), networks, subject.device)
        for label, cls in enumerate(subject.fakes.classes)
    }
    scores = []
    for i, space in enumerate(subject.spaces):
        own = {cls: rows.split(networks.dims, dim=1)[i] for cls, rows in styles.items()}
        scores += [*classes_kept(space), *_styles_kept(space.extractor, own)]
    return scores


def classes_kept(space: Space) -> list[Score]:
    """The share of fakes that are taken for their class, and of reals."""
    extractor, reals, fakes = space.extractor, space.reals, space.fakes
    protocol = f"linear discriminants of real features, ridge {RIDGE:g}"
    nothing: dict[str, Tensor] = dict.fromkeys(reals, torch.empty(0))
    of_fakes = _by_class(extractor, "class-kept", class_kept(reals, fakes), (reals, fakes), protocol)
    halves = f"{protocol}, two halves"
    return [*of_fakes, *_by_class(extractor, "class-kept-reals", class_kept_of_reals(reals), (reals, nothing), halves)]


def _styles_kept(extractor: Extractor, styles: Mapping[str, Tensor]) -> list[Score]:
    sides = dict.fromkeys(styles, torch.empty(0)), styles
    kept, alike = "correlation over shared z, standardised within classes", "linear CKA over shared z, unbiased"
    return [
        *_by_class(extractor, "style-kept", style_kept(styles), sides, kept),
        *_by_class(extractor, "style-alike", style_alike(styles), sides, alike),
    ]


def _by_class(
    extractor: Extractor,
    name: str,
    values: Mapping[str, float],
    sides: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    protocol: str,
) -> list[Score]:
    reals, fakes = sides
    rows = []
    for cls, value in values.items():
        counts = len(reals[cls]), len(fakes[cls])
        rows.append(Score.by(extractor, extractor.metric(name), cls, value, counts, protocol))
    return with_mean(rows)


GENERATOR_SCORES: dict[str, Callable[[Subject], list[Score]]] = {
    "diversity": diversity,
    "ppl": path_length,
    "leakage": leakage,
}
OF_SEVERAL_CLASSES = ("ppl", "leakage")
OF_PERCEPTION = ("diversity", "ppl")


def check_classes(metrics: Iterable[str], classes: int) -> None:
    """Raises UserError where a metric compares classes and there is one."""
    for name in metrics:
        if name in OF_SEVERAL_CLASSES and classes < 2:
            raise UserError(f"{name} compares classes and needs 2 or more, got {classes}; leave it out of --metrics")


def _fake_images(subject: Subject, label: int) -> Iterator[Tensor]:
    return subject.fakes.batches(label, range(min(2 * PAIRS, subject.fakes.per_class)))


def _real_images(subject: Subject, label: int) -> Iterator[Tensor]:
    """Shuffled: neighbours in a data set may be frames of one film."""
    images = torch.nonzero(subject.reals.labels == label).flatten()
    order = torch.randperm(len(images), generator=rng.generator(rng.key(subject.fakes.seed, f"diversity/{label}", 0)))
    for i in images[order[: 2 * PAIRS]].tolist():
        yield subject.reals[i][0][None]
