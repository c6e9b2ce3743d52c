"""Any text becomes the name of one file, on every system, and no two texts the same."""

from __future__ import annotations

import json

import pytest
import tiny
from PIL import Image

from hmgan.files import LONGEST, file_names
from hmgan.train import rundir

TEXTS = (
    *("T-shirt/top", "T-shirt_top", "t-shirt_TOP", "../../escaped", "/abs/x", "a\\b", "C:evil", "..", ".", "", " "),
    *(".hidden", "con", "NUL.txt", "lpt1", "COM\xb9", "x" * 300, "x" * 301, "\u732b" * 200, "caf\xe9", "cafe\u0301"),
    *(
        "two\nlines",
        "bell\x07",
        "turned\u202etxt",
        "half\ud800",
        "dot.",
        "dot",
        "stra\xdfe",
        "STRASSE",
        "\ufb01x",
        "fix",
    ),
)


def test_the_names_of_any_texts_are_safe_and_differ_where_case_is_not_told_apart(tmp_path):
    names = file_names(TEXTS)
    assert list(names) == list(TEXTS)
    assert len({name.casefold() for name in names.values()}) == len(TEXTS)
    for name in names.values():
        (tmp_path / name).write_bytes(b"")
        assert not set(name) & set('/\\<>:"|?*\n\x07\u202e')
        assert name[0] not in ". "
        assert name[-1] not in ". "
        assert len(name.encode()) <= LONGEST + 4
        assert name.split(".")[0].lower() not in ("con", "nul", "lpt1", "com\xb9")
    assert len(list(tmp_path.iterdir())) == len(TEXTS)


def test_plain_names_stay_as_they_are():
    plain = ("ant", "Golden retriever", "\u732b", "0001", "v1.5", "console")
    assert file_names(plain) == {text: text for text in plain}


def test_names_of_repeated_numbers_differ():
    assert list(file_names(["a", "A", "a-2", "A-2"]).values()) == ["a", "A-2", "a-2-2", "A-2-3"]


@pytest.fixture
def odd(shards, source, tmp_path):
    """A conditional generator whose classes have the names of a hostile data set."""
    run = ["--outdir", tmp_path / "runs", "--data", shards, "--source", source, "--kimg", "0.004", "--batch", "4"]
    settings = tiny.options(train__trackers="[]")
    assert tiny.command("train", "hyper-mod-b", *run, "--metrics", "0", *settings) == 0
    (folder,) = (tmp_path / "runs").glob("0*/snapshots/*")
    config = json.loads((folder / "config.json").read_text())
    config["classes"] = ["../../escaped", "T-shirt/top", "t-shirt\ntop" * 40]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("words", "count"),
    [(["sample"], 6), (["sample", "--grid", "2x1"], 3), (["mix", "--with", "3"], 3), (["mix"], 1)],
)
def test_pictures_of_classes_lie_in_the_folder_whatever_the_classes_are_called(words, count, odd, tmp_path):
    out = tmp_path / "a" / "b" / "out"
    before = set(tmp_path.rglob("*"))
    assert tiny.command(*words, "--network", odd, "--outdir", out, "--seeds", "0,1") == 0
    made = {path for path in set(tmp_path.rglob("*")) - before if path.is_file()}
    assert {path.parent for path in made} == {out}
    assert len(made) == count
    for path in made:
        with Image.open(path) as picture:
            assert max(picture.size) < 2000


def test_interpolation_shows_odd_names_in_their_columns(odd, tmp_path):
    assert tiny.command("interpolate", "--network", odd, "--out", tmp_path / "i.png") == 0
    assert (tmp_path / "i.png").is_file()


def test_a_run_directory_of_data_with_an_odd_name_lies_in_its_folder(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source)
    folder = rundir.create(tmp_path, "name", "../" * 3 + "x" * 300, 8, 1, experiment)
    assert folder.parent == tmp_path
    assert (folder / "config.json").is_file()
