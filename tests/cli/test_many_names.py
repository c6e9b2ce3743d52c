"""Lines that name the classes of a thousand stay lines that a person can read."""

from __future__ import annotations

import pytest
import tiny
from PIL import Image

CLASSES = 200


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two images of each of 200 classes."""
    folder = tmp_path_factory.mktemp("names")
    for label in range(CLASSES):
        (folder / f"kind-{label:03d}").mkdir()
        for i in range(2):
            Image.new("RGB", (8, 8), (label, i, 0)).save(folder / f"kind-{label:03d}" / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def many(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "many"
    assert tiny.command("pack", images, folder) == 0
    return folder


def bounded(text):
    """Whether no line has more names than a person reads, and one says how many there are."""
    lines = text.splitlines()
    return max(line.count("kind-") for line in lines) <= 65 and f"({CLASSES} in all)" in text.replace("\n", " ")


def test_pack_says_how_many_classes_there_are(images, tmp_path, capsys):
    assert tiny.command("pack", images, tmp_path / "packed") == 0
    out = capsys.readouterr().out
    assert bounded(out)
    assert "400 images of 8 px in 1 shards (kind-000 2, " in out


def test_a_dry_run_says_how_many_classes_there_are(many, source, capsys):
    words = ["train", "hyper-mod-b", "--data", many, "--source", source, "--batch", "4", "-n"]
    assert tiny.command(*words, *tiny.options()) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "kind-063, ... (200 in all)" in out
    assert "kind-199" not in out.partition("first batch")[0]


def test_a_class_that_is_not_there_is_told_beside_some_that_are(many, source, capsys):
    wanted = tiny.options(data=f'{{sources = ["{many}"], classes = ["kind-9"]}}')
    assert tiny.command("train", "hyper-mod-b", "--source", source, *wanted) == 2
    assert bounded(capsys.readouterr().err)
