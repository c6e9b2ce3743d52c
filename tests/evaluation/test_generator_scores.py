"""Diversity, path length and leakage of the tiny transfer, as `hmgan evaluate` computes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from alone import Alone

from hmgan.data.named import open_data
from hmgan.errors import UserError
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.generator_scores import pair_distances
from hmgan.evaluation.judge import METRICS, Judge
from hmgan.evaluation.score import Score
from hmgan.metrics.perceptual import load_squeeze_layers
from hmgan.train.prepare import prepare

CPU = torch.device("cpu")
LAYERS = "squeezenet-layers"


@pytest.fixture(scope="module")
def generator(shards, source) -> Any:
    """The tiny transfer, its heads moved off the source so that classes differ."""
    made = prepare(tiny.transfer(shards, source)).networks.generator.eval()
    with torch.no_grad():
        for parameter in made.trained.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return made


def scores_of(shards: Path, generator: Any, *metrics: str, per_class: int = 8) -> dict[tuple[str, str], Score]:
    judge = Judge(open_data(str(shards)), "squeezenet", None, Alone(), metrics)
    scores = judge(generator, tiny.CLASSES, per_class, 0)
    assert scores is not None
    assert len({(s.metric, s.cls) for s in scores}) == len(scores)
    return {(s.metric, s.cls): s for s in scores}


def test_a_wrong_perceptual_network_is_refused_before_any_image_is_drawn(shards) -> None:
    reals = open_data(str(shards))
    with pytest.raises(UserError, match="no perceptual named 'vgg'"):
        Judge(reals, "squeezenet", None, Alone(), ["ppl"], "vgg")
    Judge(reals, "squeezenet", None, Alone(), ["fd"], "vgg")  # nothing asks for it


def test_all_metrics_together_have_a_mean_each_and_their_protocol(shards, generator) -> None:
    scores = scores_of(shards, generator, *METRICS)
    metrics = {metric for metric, _ in scores}
    assert len(metrics) == 5 + 6 + 3 + 2 + 2 + 4
    for metric in metrics:
        mean = scores[metric, "mean"]
        assert mean.protocol
        assert len(mean.digest) == 64
        assert metric.endswith(f"-{mean.extractor}")
        if not metric.startswith("path"):
            values = [scores[metric, cls].value for cls in tiny.CLASSES]
            assert mean.value == pytest.approx(sum(values) / 3)
    for name in ("class-kept", "class-kept-reals", "style-kept"):
        assert 0 <= scores[f"{name}-squeezenet", "mean"].value <= 1
    path = scores[f"path-full-{LAYERS}", "mean"]
    assert path.value > 0
    assert path.n_fake == 2 * 24
    assert path.protocol.startswith("24 pairs, epsilon 0.0001, t = U(0,1), ")
    assert "t = 0, " in scores[f"path-end-{LAYERS}", "mean"].protocol


def test_diversity_is_over_disjoint_pairs_of_one_class(shards, generator) -> None:
    scores = scores_of(shards, generator, "diversity", per_class=7)
    distance = load_squeeze_layers()
    images = torch.cat(list(Fakes(generator, tiny.CLASSES, 7, 0).batches(1, range(7)))).float()
    expected = sum(float(distance(images[i, None], images[i + 1, None])) for i in (0, 2, 4)) / 3
    one = scores[f"diversity-{LAYERS}", "bee"]
    assert one.value == pytest.approx(expected, rel=1e-4)
    assert (one.n_real, one.n_fake) == (0, 6)
    real = scores[f"diversity-reals-{LAYERS}", "bee"]
    assert (real.n_real, real.n_fake) == (12, 0)
    assert real.value > 0
    collapsed = images[:1].to(torch.uint8).expand(6, 3, 8, 8)
    assert pair_distances([collapsed[:3], collapsed[3:]], distance, CPU).tolist() == [0, 0, 0]


def test_style_is_kept_whole_by_a_transfer_that_is_still_its_source(shards, source) -> None:
    """Every class renders the same image from the same z; other scores' fakes share no z."""
    unmoved = prepare(tiny.transfer(shards, source)).networks.generator.eval()
    drawn = Fakes(unmoved, tiny.CLASSES, 5, 0)
    same = [torch.cat(list(drawn.batches(label, range(5), shared_style=True))) for label in range(3)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(*(torch.cat(list(drawn.batches(label, range(5)))) for label in (0, 1)))
    assert scores_of(shards, unmoved, "leakage")["style-kept-squeezenet", "mean"].value == pytest.approx(1)


def test_scores_repeat(shards, generator) -> None:
    first, again = (scores_of(shards, generator, "diversity", "leakage", per_class=4) for _ in range(2))
    assert first == again


def test_unknown_metrics_and_one_class_are_user_errors(shards, source, tmp_path, capsys) -> None:
    with pytest.raises(UserError, match="no metric named 'prdcs'; did you mean 'prdc'"):
        scores_of(shards, None, "prdcs")
    images = tmp_path / "images"
    tiny.write_images(images, 8)
    (tmp_path / "one").mkdir()
    (images / "ant").rename(tmp_path / "one" / "all")
    assert tiny.command("pack", tmp_path / "one", tmp_path / "packed") == 0
    capsys.readouterr()
    given = ("evaluate", source, "--data", tmp_path / "packed", "--metrics", "fd,ppl")
    assert tiny.command(*given) == 2
    assert "ppl compares classes and needs 2 or more, got 1; leave it out of --metrics" in capsys.readouterr().err


def test_the_command_writes_what_it_shows(shards, source, tmp_path, capsys) -> None:
    train = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path, "--batch", 4)
    assert tiny.command(*train, "--kimg", 0.004, *tiny.options(train__trackers="[]")) == 0
    (run,) = tmp_path.iterdir()
    assert tiny.command("evaluate", run, "--per-class", 8, "--metrics", "prdc,leakage,ppl") == 0
    assert f"extractor {LAYERS} " in capsys.readouterr().out
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["metric"] for line in lines} >= {"recall-k3-squeezenet", f"path-end-{LAYERS}", "style-kept-squeezenet"}
    assert all(line["protocol"] for line in lines)
