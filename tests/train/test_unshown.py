"""Classes that a schedule never comes to are told before it begins: rare ones, and more classes than images shown."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from PIL import Image

from hmgan.data.images import Reading
from hmgan.data.named import open_images
from hmgan.data.pack.pack import pack
from hmgan.train import unshown


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Packed: 300 images of one class and 1 of another, and an image of each of 100 classes."""
    folder = tmp_path_factory.mktemp("unshown")
    pixels = np.random.default_rng(0).integers(0, 256, (301, 8, 8, 3), np.uint8)
    for i in range(301):
        for name, cls in (("rare", "common" if i < 300 else "rare"), ("many", f"{i:02d}")):
            if name == "rare" or i < 100:
                (folder / name / cls).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[i]).save(folder / name / cls / f"{i}.png")
    for name in ("rare", "many"):
        pack(folder / name, folder / f"{name}-packed", report=lambda line: None)
    return folder


def told(sets, source, name, kimg, *more):
    """The line, the classes that the batches show, and all classes."""
    experiment = tiny.transfer(sets / f"{name}-packed", source, f"train.kimg={kimg}", "train.batch=4", *more)
    data = open_images(experiment.data, group=experiment.loader.strata)
    batches = data.batches(Reading(batch_per_rank=4, seed=experiment.train.seed))
    shown = {label for _ in range(round(250 * kimg)) for label in next(batches).labels.tolist()}
    return unshown.warning(experiment, data), shown, data.classes


def test_a_rare_class_is_named_until_the_schedule_shows_it(sets, source):
    line, shown, _ = told(sets, source, "rare", 0.04)
    assert shown == {0}
    assert line == (
        "warning: 0.04 kimg show no image of 1 of 2 classes (rare); train longer, or show classes equally often "
        "with --set data.balance=true"
    )
    line, shown, _ = told(sets, source, "rare", 0.304)
    assert (line, shown) == ("", {0, 1})


@pytest.mark.parametrize("kimg", [0.004, 0.04, 0.304])
def test_so_it_is_in_stratified_batches(kimg, sets, source):
    line, shown, _ = told(sets, source, "rare", kimg, "loader.stratified=true")
    assert ("(rare)" in line) is (1 not in shown)


def test_balanced_classes_are_all_shown_soon(sets, source):
    assert told(sets, source, "rare", 0.008, "data.balance=true")[:2] == ("", {0, 1})


def test_more_classes_than_images_shown_are_counted_and_the_first_named(sets, source):
    line, shown, classes = told(sets, source, "many", 0.04, "data.balance=true")
    missing = [cls for label, cls in enumerate(classes) if label not in shown]
    assert len(missing) == 60
    assert (
        line == f"warning: 0.04 kimg show no image of 60 of 100 classes ({', '.join(missing[:8])}, ...); train longer"
    )
