"""Scores that need the generator itself, not only features of its images: diversity, path length, leakage.

B batch, P pairs, H/W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor

from hmgan import rng
from hmgan.errors import UserError
from hmgan.evaluation.fakes import fakes, fakes_of_shared_style
from hmgan.evaluation.features import LabelledImages, extract
from hmgan.evaluation.paths import EPSILON, path_lengths, trimmed_mean
from hmgan.evaluation.score import MEAN, Score, with_mean
from hmgan.generators.base import Generator
from hmgan.generators.transfer import TransferGenerator
from hmgan.metrics.features import Extractor
from hmgan.metrics.leakage import RIDGE, class_kept, class_kept_of_reals, style_kept
from hmgan.metrics.networks import load_perceptual
from hmgan.metrics.perceptual import Perceptual

PAIRS = 500  # of images per class, for diversity
PATHS = 5000  # the paper's number of pairs
STYLES = 1000  # draws of z per class, for leakage
PAIR_BATCH = 16


class Subject(NamedTuple):
    """A generator, what it is compared with, and how it is drawn from."""

    generator: Generator
    classes: tuple[str, ...]
    reals: LabelledImages
    real_features: Mapping[str, Tensor]
    fake_features: Mapping[str, Tensor]
    extractor: Extractor
    perceptual: str  # a name of `load_perceptual`
    per_class: int
    seed: int
    truncation: float
    device: torch.device


def diversity(subject: Subject) -> list[Score]:
    """Mean perceptual distance over disjoint pairs of one class, of fakes and of reals, drawn by seed."""
    distance = load_perceptual(subject.perceptual).to(subject.device)
    scores = []
    for name, images_of in (("diversity", _fake_images), ("diversity-reals", _real_images)):
        rows = []
        for label, cls in enumerate(subject.classes):
            values_P = pair_distances(images_of(subject, label), distance, subject.device)
            count = 2 * len(values_P)
            counts = (0, count) if name == "diversity" else (count, 0)
            value, protocol = float(values_P.double().mean()), f"{len(values_P)} disjoint pairs"
            rows.append(Score.by(distance, f"{name}-{distance.name}", cls, value, counts, protocol))
        scores += with_mean(rows)
    return scores


def pair_distances(batches: Iterable[Tensor], distance: Perceptual, device: torch.device) -> Tensor:
    """[P], of the first and second image, the third and fourth, and so on; a last image without a partner is left."""
    images_B3HW = torch.cat(list(batches))
    last = len(images_B3HW) // 2 * 2
    pairs = zip(images_B3HW[:last:2].split(PAIR_BATCH), images_B3HW[1:last:2].split(PAIR_BATCH), strict=True)
    with torch.no_grad():
        return torch.cat([distance(a.to(device).float(), b.to(device).float()).cpu() for a, b in pairs])


def path_length(subject: Subject) -> list[Score]:
    """Perceptual path length from class to class, full and end: one number each, over all pairs of classes."""
    distance = load_perceptual(subject.perceptual, torch.float64).to(subject.device)
    count = min(PATHS, subject.per_class * len(subject.classes))
    generator = cast(TransferGenerator, subject.generator)  # as `check_classes` has it: nothing else has several
    scores = []
    for mode in ("full", "end"):
        lengths_P = path_lengths(
            generator,
            distance,
            len(subject.classes),
            mode=mode,
            pairs=count,
            seed=subject.seed,
            truncation=subject.truncation,
        )
        at = "0" if mode == "end" else "U(0,1)"
        protocol = (
            f"{count} pairs, epsilon {EPSILON:g}, t = {at}, class vectors linear, same z and noise, [1%, 99%], "
            "generator in float64"
        )
        metric = f"path-{mode}-{distance.name}"
        scores.append(Score.by(distance, metric, MEAN, trimmed_mean(lengths_P), (0, 2 * count), protocol))
    return scores


def leakage(subject: Subject) -> list[Score]:
    """Whether z keeps the class and the class keeps the style, in 0..1."""
    count = min(STYLES, subject.per_class)
    styles = {}
    for label, cls in enumerate(subject.classes):
        drawn = fakes_of_shared_style(subject.generator, label, count, subject.seed, subject.truncation)
        styles[cls] = extract(drawn, subject.extractor, subject.device)
    fitted = f"linear discriminants of real features, ridge {RIDGE:g}"
    reals, fake_features = subject.real_features, subject.fake_features
    values: list[tuple[str, dict[str, float], Mapping[str, Tensor], Mapping[str, Tensor], str]] = [
        ("class-kept", class_kept(reals, fake_features), reals, fake_features, fitted),
        ("class-kept-reals", class_kept_of_reals(reals), reals, {}, f"{fitted}, two halves"),
        ("style-kept", style_kept(styles), {}, styles, "correlation over shared z, standardised within classes"),
    ]
    scores = []
    for name, value_of, real_rows, fake_rows, protocol in values:
        rows = [
            Score.by(
                subject.extractor,
                subject.extractor.metric(name),
                cls,
                value,
                (len(real_rows.get(cls, ())), len(fake_rows.get(cls, ()))),
                protocol,
            )
            for cls, value in value_of.items()
        ]
        scores += with_mean(rows)
    return scores


BEHAVIOURS: dict[str, Callable[[Subject], list[Score]]] = {
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
    count = min(2 * PAIRS, subject.per_class)
    return fakes(subject.generator, label, count, subject.seed, subject.truncation)


def _real_images(subject: Subject, label: int) -> Iterator[Tensor]:
    """Neighbours in a data set may be frames of one film, so they are shuffled."""
    places = torch.nonzero(subject.reals.labels == label).flatten()
    order = torch.randperm(len(places), generator=rng.generator(rng.key(subject.seed, f"diversity/{label}", 0)))
    for place in places[order[: 2 * PAIRS]].tolist():
        yield subject.reals[place][0][None]
