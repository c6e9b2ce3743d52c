"""Scores per class, their protocol, the cache of real features, and the table."""

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from alone import Alone
from rich.console import Console
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.evaluation.features import extract, real_features
from hmgan.evaluation.score import Score, class_scores
from hmgan.evaluation.table import scores_table
from hmgan.metrics.distances import frechet_distance, kernel_distance
from hmgan.metrics.features import Extractor
from hmgan.metrics.intervals import wilson
from hmgan.metrics.measures import FEATURE_MEASURES, arrow

NEIGHBOURS = ("precision-k3", "recall-k3", "precision-k5", "recall-k5", "density-k5", "coverage-k5")


class MeanColour(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def extractor(digest: str = "d" * 64, side: int = 8) -> Extractor:
    return Extractor(MeanColour(), name="toy", digest=digest, dim=3, side=side)


class Images:
    """150 random images in two classes, counting how many are read."""

    classes = ("cat", "dog")

    def __init__(self, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randint(0, 256, (150, 3, 8, 8), generator=generator, dtype=torch.uint8)
        self.labels = (torch.arange(150) % 3 == 0).long()
        self.digest = hashlib.sha256(self.images.numpy().tobytes()).hexdigest()
        self.reads = 0

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.images[i], int(self.labels[i])


def sets(n: int = 20, m: int = 30, shift: float = 0.5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    real = {cls: torch.randn(n, 3, generator=generator, dtype=torch.float64) for cls in Images.classes}
    fake = {cls: torch.randn(m, 3, generator=generator, dtype=torch.float64) + shift for cls in Images.classes}
    return real, fake


def test_every_class_is_scored_on_its_own_and_the_mean_weighs_them_equally() -> None:
    real, fake = sets()
    scores = {(s.metric, s.cls): s.value for s in class_scores(real, fake, extractor())}
    assert scores["FD-toy", "cat"] == frechet_distance(real["cat"], fake["cat"])
    assert scores["KD-toy", "dog"] == kernel_distance(real["dog"], fake["dog"])
    for metric in ("FD-toy", "KD-toy"):
        assert scores[metric, "mean"] == pytest.approx((scores[metric, "cat"] + scores[metric, "dog"]) / 2)
    assert len(scores) == 6


def test_each_line_carries_counts_hash_and_resizer_and_no_borrowed_name() -> None:
    for score in class_scores(*sets(20, 30), extractor()):
        line = score.line()
        factor = 2 if score.cls == "mean" else 1
        assert (line["n_real"], line["n_fake"]) == (20 * factor, 30 * factor)
        assert (line["extractor"], line["digest"], line["resizer"]) == ("toy", "d" * 64, "bicubic-antialias-8")
        kept = ["metric", "class", "value", "n_real", "n_fake", "extractor", "digest", "resizer", "protocol"]
        assert list(line) == kept
        assert "full sets" in str(line["protocol"])
        assert json.loads(json.dumps(line)) == line
        assert "FID" not in score.metric
        assert "KID" not in score.metric


def test_every_feature_measure_names_its_settings_and_has_a_mean_over_the_classes() -> None:
    scores = class_scores(*sets(), extractor(), tuple(FEATURE_MEASURES))
    protocols = {s.metric.removesuffix("-toy"): s.protocol for s in scores if s.cls == "mean"}
    distances = ("FD", "KD", "KD-subsets", "KD-subsets-std", "KD-scaled")
    assert list(protocols) == [*distances, *NEIGHBOURS, "rank", "rank-reals", "spread"]
    assert protocols["KD-subsets"].endswith("; 100 subsets of 20, seed 0")
    for name in NEIGHBOURS:
        assert protocols[name].startswith(f"k = {name[-1]}, inside: distance <= radius")
        values = {s.cls: s.value for s in scores if s.metric == f"{name}-toy"}
        assert values["mean"] == pytest.approx((values["cat"] + values["dog"]) / 2)
    assert {name: arrow(name) for name in ("FD", "KD-subsets", "recall-k3", "density-k5")} == {
        "FD": "\u2193",
        "KD-subsets": "\u2193",
        "recall-k3": "\u2191",
        "density-k5": "\u2191",
    }


def test_the_order_of_classes_in_the_fakes_does_not_matter() -> None:
    real, fake = sets()
    turned = dict(reversed(fake.items()))
    assert class_scores(real, fake, extractor()) == class_scores(real, turned, extractor())


def test_small_missing_and_misnamed_classes_are_user_errors() -> None:
    real, fake = sets()
    with pytest.raises(UserError, match="class 'dog' has 1 fake samples, a score needs 2 or more"):
        class_scores(real, fake | {"dog": fake["dog"][:1]}, extractor())
    with pytest.raises(UserError, match=r"same classes, got \['cat', 'dog'\] and \['cat'\]"):
        class_scores(real, {"cat": fake["cat"]}, extractor())
    with pytest.raises(UserError, match="a class is named 'mean'"):
        class_scores({"mean": real["cat"]}, {"mean": fake["cat"]}, extractor())


def test_extract_joins_batches_in_order() -> None:
    images = Images().images
    features = extract(images.split(40), extractor())
    assert features.dtype == torch.float64
    torch.testing.assert_close(features, images.double().mean(dim=(2, 3)), rtol=1e-5, atol=1e-3)
    assert extract([], extractor()).shape == (0, 3)


def test_real_features_are_the_first_of_each_class_in_order(tmp_path: Path) -> None:
    data = Images()
    features = real_features(data, extractor(), cache=None, ranks=Alone(), limit=30)
    assert list(features) == ["cat", "dog"]
    for label, cls in enumerate(data.classes):
        expected = data.images[data.labels == label][:30].double().mean(dim=(2, 3))
        torch.testing.assert_close(features[cls], expected, rtol=1e-5, atol=1e-3)
    assert data.reads == 60
    assert not list(tmp_path.iterdir())


def test_a_cache_hit_equals_a_recompute_and_reads_no_image(tmp_path: Path) -> None:
    data = Images()
    first = real_features(data, extractor(), cache=tmp_path / "new" / "folder", ranks=Alone())
    reads = data.reads
    again = real_features(data, extractor(), cache=tmp_path / "new" / "folder", ranks=Alone())
    assert data.reads == reads == 150
    assert list(first) == list(again)
    assert all(torch.equal(first[cls], again[cls]) for cls in first)
    assert [path.suffix for path in (tmp_path / "new" / "folder").iterdir()] == [".safetensors"]


def test_a_cache_is_not_reused_for_other_data_extractors_resizers_or_limits(tmp_path: Path) -> None:
    calls = [(Images(), extractor(), 50), (Images(1), extractor(), 50), (Images(), extractor("e" * 64), 50)]
    calls += [(Images(), extractor(side=4), 50), (Images(), extractor(), 40)]
    for i, (data, net, limit) in enumerate(calls):
        real_features(data, net, cache=tmp_path, ranks=Alone(), limit=limit)
        assert data.reads > 0
        assert len(list(tmp_path.iterdir())) == i + 1


def test_a_broken_cache_and_a_useless_limit_are_user_errors(tmp_path: Path) -> None:
    real_features(Images(), extractor(), cache=tmp_path, ranks=Alone())
    next(tmp_path.iterdir()).write_bytes(b"half a fi")
    with pytest.raises(UserError, match=r"the feature cache .* cannot be read .*; delete it"):
        real_features(Images(), extractor(), cache=tmp_path, ranks=Alone())
    with pytest.raises(UserError, match="limit counts real images per class and must be at least 2, got 1"):
        real_features(Images(), extractor(), cache=None, ranks=Alone(), limit=1)


def test_shares_have_intervals_of_the_side_that_they_are_shares_of() -> None:
    scores = class_scores(*sets(), extractor(), ("prdc",))
    for score in scores:
        name = score.metric.removesuffix("-toy")
        assert Score.of_line(score.line()) == score
        if name == "density-k5":
            assert (score.low, score.high) == (None, None)
            continue
        assert score.low <= score.value <= score.high
        if score.cls != "mean":
            side, count = ("reals", 20) if name.startswith(("recall", "coverage")) else ("fakes", 30)
            assert (score.low, score.high) == wilson(score.value, count)
            assert score.protocol.endswith(f"95% interval: Wilson, over the {side}")
    widths = {score.cls: score.high - score.low for score in scores if score.metric == "recall-k3-toy"}
    assert widths["mean"] < max(widths["cat"], widths["dog"]) / 1.2


def shown(table: object) -> str:
    out = io.StringIO()
    Console(width=160, file=out).print(table)
    return out.getvalue()


def test_the_table_sets_before_and_after_side_by_side_with_their_protocol() -> None:
    before, after = (class_scores(*sets(shift=shift), extractor()) for shift in (2.0, 0.1))
    text = shown(scores_table([("before", before), ("after", after)]))
    lines = [line for line in text.splitlines() if "cat" in line or "mean" in line]
    for score in (*before, *after):
        if score.cls in ("cat", "mean"):
            assert any(f"{score.value:.4g}" in line for line in lines)
    assert text.index("cat") < text.index("dog") < text.index("mean")
    assert "before" in text
    assert "extractor toy dddddddd, resized bicubic-antialias-8" in text
    assert "40" in lines[-1]
    assert "60" in lines[-1]


def test_the_table_shows_any_class_name_and_refuses_mixed_protocols() -> None:
    real, fake = sets()
    scores = class_scores({"[red]x": real["cat"]}, {"[red]x": fake["cat"]}, extractor())
    assert "[red]x" in shown(scores_table([("", scores)]))
    other = class_scores(real, fake, extractor("e" * 64))
    with pytest.raises(UserError, match="different protocols cannot share a table"):
        scores_table([("before", scores), ("after", other)])
    with pytest.raises(UserError, match="no scores to show"):
        scores_table([])
