"""Model cards."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from hmgan.data import left_out
from hmgan.errors import UserError
from hmgan.evaluation.card import write_card
from hmgan.evaluation.score import Score
from hmgan.train.log import RunLog, warn


def test_a_card_holds_the_facts_every_score_with_its_counts_and_the_extractors_hash(tmp_path: Path) -> None:
    score = Score("FD-squeezenet", "bag", 1234.5, 500, 400, "squeezenet", "ab12" * 16, "bicubic-antialias-96")
    write_card(tmp_path, "A GAN", {"Seed": "7"}, [score], "hmgan sample --network .")
    card = (tmp_path / "README.md").read_text()
    assert "# A GAN" in card
    assert "| Seed | 7 |" in card
    assert "| FD-squeezenet ↓ | bag | 1234 | 500 | 400 |" in card
    assert "ab12" * 16 in card
    assert "FD and KD are not FID and" in card
    assert ModelCard(card).data.license == "other"
    assert list(tmp_path.iterdir()) == [tmp_path / "README.md"]


def test_a_card_without_scores_has_no_score_section(tmp_path: Path) -> None:
    write_card(tmp_path, "A GAN", {"Seed": "7"}, [], "hmgan sample --network .")
    assert "Scores" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("classes", [64, 65])
def test_a_card_of_many_classes_has_their_means_and_says_so(classes: int, tmp_path: Path) -> None:
    score = Score("FD-squeezenet", "mean", 1.0, 5, 4, "squeezenet", "ab12" * 16, "bicubic-antialias-96")
    scores = [score, *(score._replace(cls=f"kind {i}") for i in range(classes))]
    write_card(tmp_path, "A GAN", {}, scores, "hmgan sample --network .")
    card = (tmp_path / "README.md").read_text()
    assert ("kind 3" in card) is (classes == 64)
    assert ("Means over 65 classes; those of each class are in metrics.jsonl of the run." in card) is (classes == 65)
    assert "| FD-squeezenet ↓ | mean | 1 | 5 | 4 |" in card


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("<script>x</script>", "&lt;script&gt;x&lt;/script&gt;"),
        ("`code`", r"\`code\`"),
        ("[a](http://b)", r"\[a\](http://b)"),
        ("turned\u202etxt", "turned txt"),
        ("half\ud800", "half"),
        ("T_shirt, caf\xe9 \u732b", "T_shirt, caf\xe9 \u732b"),
    ],
)
def test_a_name_from_data_is_text_in_a_card_and_nothing_else(name: str, shown: str, tmp_path: Path) -> None:
    score = Score("FD-squeezenet", name, 1.0, 5, 4, "squeezenet", "ab12" * 16, "bicubic-antialias-96")
    write_card(tmp_path, name, {"Classes": name}, [score], "hmgan sample --network .")
    lines = (tmp_path / "README.md").read_text().splitlines()
    assert f"# {shown}" in lines
    assert f"| Classes | {shown} |" in lines
    assert f"| FD-squeezenet ↓ | {shown} | 1 | 5 | 4 |" in lines


def test_a_name_from_data_stays_on_its_line_in_errors_logs_and_lists(tmp_path: Path, capsys) -> None:
    name = "two\nlines\x1b[31m\u2028[red]"
    assert str(UserError(f"no class {name!s} here")) == "no class two lines [31m [red] here"
    with RunLog(tmp_path, 1.0) as log:
        log.say(f"warning: class {name}")
    assert (tmp_path / "log.txt").read_text() == "warning: class two lines [31m [red]\n"
    warn(name)
    left_out.tell({"no label": [name]}, "x", print)
    assert [line.count("[red]") for line in capsys.readouterr().out.splitlines()] == [1]
