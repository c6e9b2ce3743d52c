"""The report of a run states what was measured, from whatever files are there."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from hmgan.errors import UserError
from hmgan.evaluation.score import Score
from hmgan.report.scores import number_format, recorded_scores
from hmgan.report.transfer import Transfer, listed, newest_fakes, transfer_report

TRANSFER = Transfer(
    title="T",
    source="fashion-32",
    classes=("sandal", "bag"),
    data="fashion-close",
    method="Hyper-Mod C",
    kimg=6.0,
    minutes=3.4,
    command="hmgan demo --outdir demo",
    run="demo/run",
    collapse=0.5,
    facts={},
)


def scores(values: dict[str, tuple[float, float]], digest: str = "ab" * 32) -> list[Score]:
    """class -> (FD, KD), as Score rows."""
    return [
        Score(metric, cls, pair[i], 500, 100, "squeezenet", digest, "bicubic-antialias-64")
        for i, metric in enumerate(("FD-squeezenet", "KD-squeezenet"))
        for cls, pair in values.items()
    ]


BEFORE = scores({"sandal": (80.0, 0.5), "bag": (120.0, 0.7), "mean": (100.0, 0.6)})
AFTER = scores({"sandal": (20.0, 0.05), "bag": (30.0, -0.001), "mean": (25.0, 0.0245)})


def write(folder, transfer: Transfer = TRANSFER, before=BEFORE, after=AFTER) -> tuple[str, str]:
    transfer_report(folder, transfer, before, after)
    return tuple((folder / name).read_text(encoding="utf-8") for name in ("REPORT.md", "report.html"))


def add_pictures(folder, *names: str) -> None:
    for name in names:
        Image.new("RGB", (20, 10), "blue").save(folder / name)


def add_logs(folder, classes=("sandal", "mean")) -> None:
    lines = [{"kimg": k, "loss/G": 1.0 + k, "loss/D": 2.0 - k / 9} for k in (1.0, 2.0)]
    (folder / "stats.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [
        {"kimg": k, "snapshot": "s", **score.line()}
        for k, group in ((0.0, BEFORE), (3.0, BEFORE), (6.0, AFTER))
        for score in group
        if score.cls in classes
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_numbers_are_in_both_forms(tmp_path):
    for text in write(tmp_path, TRANSFER._replace(facts={"Seed": "11"})):
        assert "6 kimg (6,000 real images shown) in 3m 24s" in text
        assert "went from 100.0 to 25.0" in text
        for words in ("sandal and bag", "fashion-close", "Hyper-Mod C", "Seed", "11", "hmgan demo --outdir demo"):
            assert words in text
        assert "abababababab" in text
        assert "bicubic-antialias-64" in text


def test_the_table_shows_before_after_ratio_and_counts(tmp_path):
    lines = write(tmp_path)[0].splitlines()
    assert "| class | before | after | ratio | real | fake |" in lines
    assert "| sandal | 80.0 | 20.0 | 0.25 | 500 | 100 |" in lines
    assert "| **mean** | **100.0** | **25.0** | **0.25** | **500** | **100** |" in lines
    assert "| bag | 0.7000 | -0.0010 | \u2013 | 500 | 100 |" in lines, "a ratio to a negative estimate says nothing"


def test_it_says_that_the_scores_are_not_fid(tmp_path):
    text = write(tmp_path)[0]
    assert "feature space of a small SqueezeNet" in text
    assert "They are not FID and KID" in text


def test_what_is_not_there_is_left_out(tmp_path):
    text = write(tmp_path, before=(), after=())[0]
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Reproduce", "## Next"]
    assert "![" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["REPORT.md", "report.html"]


def test_what_is_there_is_shown_and_the_newest_fakes_are_after(tmp_path):
    add_pictures(tmp_path, "source.png", "reals.png", "fakes_init.png", "fakes000004.000.png", "fakes000006.000.png")
    add_pictures(tmp_path, "interpolation.png", "styles.png")
    add_logs(tmp_path)
    text, page = write(tmp_path)
    for name in (
        "source",
        "reals",
        "fakes_init",
        "fakes000006.000",
        "styles",
        "interpolation",
        "score_curves",
        "loss_curves",
    ):
        assert f"]({name}.png)" in text
    assert "fakes000004.000" not in text
    assert page.count("<img ") == 8
    assert page.count("<source ") == 2, "curves come in a dark form too"


def test_newest_fakes_is_by_kimg_and_ignores_other_files(tmp_path):
    assert newest_fakes(tmp_path) is None
    add_pictures(tmp_path, "fakes_init.png", "fakes999.5.png", "fakes1000.5.png", "fakes-old.png")
    assert newest_fakes(tmp_path) == "fakes1000.5.png"


def test_a_hostile_class_name_stays_text_everywhere(tmp_path):
    name = "<script>alert(1)</script> $(rm x)"
    add_pictures(tmp_path, "reals.png")
    before, after = (scores({name: (80.0, 0.5), "mean": (80.0, 0.5)}) for _ in range(2))
    text, page = write(tmp_path, TRANSFER._replace(classes=(name, "bag")), before, after)
    assert "<script" not in page
    assert "--class '<script>alert(1)</script> $(rm x)' --seeds" in text, "the shell must not run a class name"
    assert "\\<script\\>" in text


def test_recorded_scores_are_the_first_and_the_last_of_the_log(tmp_path):
    assert recorded_scores(tmp_path) == ([], [])
    add_logs(tmp_path, classes=("sandal", "bag", "mean"))
    assert recorded_scores(tmp_path) == (BEFORE, AFTER)


def test_scores_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"must be of one protocol, got squeezenet abababababab .*, squeezenet cdcdcdcdcdcd"
    ):
        write(tmp_path, after=scores({"sandal": (1.0, 1.0)}, digest="cd" * 32))
    with pytest.raises(UserError, match="one side lacks FD-squeezenet of bag, KD-squeezenet of bag"):
        write(tmp_path, after=[score for score in AFTER if score.cls != "bag"])
    assert not list(tmp_path.iterdir())


def test_the_next_steps_are_of_this_run_and_a_walk_needs_two_classes(tmp_path):
    text = write(tmp_path)[0]
    assert "hmgan sample --network demo/run --class sandal" in text
    assert "hmgan interpolate --network demo/run" in text
    assert "tensorboard --logdir demo/run" in text
    assert "hmgan interpolate" not in write(tmp_path, TRANSFER._replace(classes=("sandal",)))[0]


def test_lists_read_naturally():
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed([str(i) for i in range(100)], most=3) == "0, 1 and 98 more"


@pytest.mark.parametrize(
    ("values", "texts"),
    [([107.1, 8.25], ["107.1", "8.2"]), ([0.5, 0.00123], ["0.5000", "0.0012"]), ([12345.6, 0.0], ["12,346", "0"])],
)
def test_a_column_has_one_number_of_decimals(values, texts):
    assert [number_format(values)(value) for value in values] == texts
