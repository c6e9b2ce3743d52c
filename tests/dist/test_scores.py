"""`hmgan evaluate` on two ranks, each drawing half of the fakes, gives what one process gives, to the last bit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest.mock import patch

import launched
import tiny

from hmgan.data import named
from hmgan.errors import UserError

PER_CLASS = 70  # two batches, of which each rank has one


def evaluate_on_two_ranks(run: Path, folder: Path) -> list[str]:
    """What each rank printed."""
    ranks = launched.start(["evaluate", run, "--per-class", PER_CLASS], 2, folder)
    try:
        assert ranks.codes(180) == [0, 0], ranks.said()
    finally:
        ranks.kill()
    return ranks.said()


def test_two_ranks_share_the_work_and_one_of_them_writes_the_same_scores(shards, source, tmp_path) -> None:
    train = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 4)
    assert tiny.command(*train, "--kimg", 0.004, *tiny.options(train__trackers="[]")) == 0
    (run,) = (tmp_path / "runs").iterdir()
    first, second = evaluate_on_two_ranks(run, tmp_path / "said")
    assert "FD-squeezenet" in first
    assert second == ""  # it knows that it is not alone
    assert tiny.command("evaluate", run, "--per-class", PER_CLASS) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    together, alone = lines[:8], lines[8:]
    assert len(together) == len(alone) == 2 * 4
    for line in lines:
        del line["time"]
    assert together == alone


def test_a_mistake_that_one_rank_finds_ends_both(shards, source, tmp_path) -> None:
    words = ["evaluate", source, "--data", shards, "--per-class", PER_CLASS]
    ranks = launched.start(words, 2, tmp_path / "said", without_images)
    try:
        assert ranks.codes(60) == [2, 2], ranks.said()
    finally:
        ranks.kill()
    assert [said.splitlines()[-1] for said in ranks.said()] == [
        "error: rank 1: the shards are gone",
        "error: the shards are gone",
    ]


def without_images() -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise UserError("the shards are gone")

    if os.environ["RANK"] == "1":
        patch.object(named, "open_images", fail).start()
