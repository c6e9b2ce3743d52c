"""Model cards."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import ModelCard

from hmgan.evaluation.card import write_card
from hmgan.evaluation.score import Score


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
