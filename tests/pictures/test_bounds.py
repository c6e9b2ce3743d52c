"""Pictures and their memory are bounded, whatever the number of classes and seeds."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.data.shards import ShardSet
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.models.drawing import Drawing
from hmgan.pictures import class_images
from hmgan.pictures.grids import MOST_ROWS, class_grid, fake_rows, shown, which
from hmgan.pictures.images import check_size
from hmgan.pictures.strips import MOST_COLUMNS, fitting

THOUSAND = tuple(f"{i:04d}" for i in range(1000))


@pytest.fixture
def generator(source):
    return UnconditionalGenerator(load_source(str(source)).backbone).eval()


def test_a_grid_of_a_thousand_classes_shows_the_first_and_a_line_says_so(generator):
    rows = fake_rows(generator, THOUSAND)
    assert list(rows) == list(THOUSAND[:MOST_ROWS])
    assert max(class_grid(rows).size) < 4096
    assert which(list(rows), THOUSAND) == "pictures show the first 32 of 1,000 classes"


def test_nothing_is_said_where_all_classes_are_shown():
    assert which(shown(tiny.CLASSES, 8), tiny.CLASSES) == ""


@pytest.mark.parametrize(("resolution", "rows"), [(32, 32), (256, 32), (1024, 8), (16384, 1)])
def test_rows_are_as_many_as_fit(resolution, rows):
    assert len(shown(THOUSAND, resolution)) == rows


@pytest.mark.parametrize("steps", [1, 2, 8, 255, 1000])
def test_a_walk_takes_as_many_classes_as_its_columns_allow_and_two_at_least(steps):
    count = len(fitting(THOUSAND, steps))
    assert count >= 2
    assert (count - 1) * steps < MOST_COLUMNS or count == 2


def test_a_grid_that_no_viewer_opens_is_refused_before_it_is_drawn():
    check_size(100, 100, 64)
    with pytest.raises(UserError, match="a grid of 1000 x 1000 images has 64,000 x 64,000 pixels, at most 67,108,864"):
        check_size(1000, 1000, 64)


def test_samples_are_drawn_one_by_one_on_a_cpu_however_many(source, tmp_path, monkeypatch):
    sizes = []
    whole = Drawing.render

    def counted(self, frames):
        sizes.append(len(frames))
        return whole(self, frames)

    monkeypatch.setattr(Drawing, "render", counted)
    words = ["--network", source, "--outdir", tmp_path, "--seeds", "0-149", "--device", "cpu"]
    assert tiny.command("sample", *words) == 0
    assert sizes == [1] * 150
    assert len(list(tmp_path.glob("*.png"))) == 150


def test_a_batch_is_smaller_where_images_are_larger(generator, monkeypatch):
    sizes = []
    monkeypatch.setattr(class_images, "PIXELS_AT_ONCE", 5 * 8 * 8)
    monkeypatch.setattr(
        class_images, "class_images", lambda _, z, *__: sizes.append(len(z.z)) or torch.zeros(len(z.z), 3, 8, 8)
    )
    assert len(list(class_images.drawn_by_keys(generator, range(12), 0))) == 12
    assert sizes == [5, 5, 2]


def test_examples_are_read_of_the_classes_that_are_shown(shards):
    images = ShardSet(str(shards))
    found = images.examples(2, ("cat", "ant"))
    assert list(found) == ["cat", "ant"]
    assert torch.equal(found["cat"], images.examples(2)["cat"])


def test_a_training_with_many_classes_says_what_its_pictures_show(shards, source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hmgan.pictures.grids.MOST_ROWS", 2)
    words = ["--data", shards, "--source", source, "--outdir", tmp_path, "--kimg", "0.004", "--batch", "4"]
    assert tiny.command("train", "hyper-mod-b", *words, "--metrics", "0", *tiny.options(train__trackers="[]")) == 0
    (run,) = tmp_path.glob("0*")
    assert "pictures show the first 2 of 3 classes" in (run / "log.txt").read_text()
    assert tiny.command("mix", "--network", run, "--outdir", tmp_path / "mix", "--seeds", "0") == 0
    assert "pictures show the first 2 of 3 classes" in capsys.readouterr().out
