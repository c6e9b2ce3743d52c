"""Ranks beyond the largest world that divides the batch stand aside, where their launcher starts them anew."""

from __future__ import annotations

import os

import launched
import pytest
import tiny

from hmgan.config.loading import load_experiment
from hmgan.train.distributed.elastic import largest
from hmgan.train.preflight import fits


@pytest.mark.parametrize(
    ("settings", "worlds"),
    [
        (["train.batch=64"], {1: 1, 2: 2, 3: 2, 8: 8, 24: 16, 31: 16, 32: 32, 63: 32, 100: 64}),
        (["train.batch=48"], {1: 1, 5: 4, 6: 6, 7: 6, 9: 8, 15: 12}),
        (["train.batch=48", "train.accumulate=4"], {3: 3, 5: 4, 11: 6, 47: 12}),
        (
            ["train.batch=48", "loader.stratified=true", "loader.group=8"],
            {3: 3, 4: 3, 6: 6, 48: 6},
        ),  # whole groups of a class on each rank
        (["train.batch=7"], {6: 1, 7: 7}),
        (["train.batch=6", "train.accumulate=4"], {3: 3}),  # no world: the training says why
    ],
)
def test_the_largest_world_that_divides_the_batch_trains(settings, worlds):
    experiment = load_experiment("hyper-mod-b", settings)
    assert {world: largest(world, lambda ranks: fits(experiment, ranks)) for world in worlds} == worlds


def started_anew():
    os.environ["TORCHELASTIC_MAX_RESTARTS"] = "8"


def begin(shards, source, folder, kimg, prepare=None):
    where = ["--data", shards, "--source", source, "--outdir", folder / "runs", "--resume", "auto", "--kimg", kimg]
    settings = tiny.options(train__batch=8, train__tick=0.008, train__trackers="[]", compute__threads=1)
    return launched.start(["train", "hyper-mod-b", *where, *settings], 3, folder / "said", prepare)


def test_two_of_three_ranks_train_a_batch_of_8_and_the_third_ends_with_them(shards, source, tmp_path):
    ranks = begin(shards, source, tmp_path, 0.008, started_anew)
    assert ranks.codes() == [0, 0, 0], ranks.said()
    (run,) = (tmp_path / "runs").iterdir()
    assert "-gpus2-batch8" in run.name
    assert ranks.said()[2] == "the batch divides over 2 ranks: 1 of 3 ranks stand aside until machines join or leave\n"


@pytest.mark.slow
def test_a_rank_that_stands_aside_fails_with_rank_0_so_that_its_machine_joins_the_next_round(shards, source, tmp_path):
    ranks = begin(shards, source, tmp_path, 40, started_anew)
    try:
        ranks.until(lambda: list((tmp_path / "runs").glob("*/stats.jsonl")))
        ranks.processes[0].kill()
        assert ranks.codes(of=slice(2, 3)) == [1]
    finally:
        ranks.kill()


@pytest.mark.slow
def test_without_such_a_launcher_a_batch_that_does_not_divide_is_refused(shards, source, tmp_path):
    ranks = begin(shards, source, tmp_path, 0.008)
    assert ranks.codes() == [2, 2, 2], ranks.said()
    assert "train.batch 8 does not divide over 3 ranks; change --batch" in "".join(ranks.said())
