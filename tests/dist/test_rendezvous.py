"""Ranks that fail, or never come, before there is a process group: the others do not wait for its time-out."""

from __future__ import annotations

import os
import re
import signal

import launched
import pytest
import tiny

from hmgan.errors import UserError
from hmgan.train import command
from hmgan.train.distributed import runtime

SETTINGS = tiny.options(train__batch=8, train__snap=100, train__trackers="[]", compute__threads=1)


@pytest.fixture
def two_ranks(shards, source, tmp_path):
    started = []

    def begin(timeout, prepare):
        where = ["--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--kimg", 0.008]
        words = ["train", "hyper-mod-b", *where, *SETTINGS, *tiny.options(train__timeout=timeout)]
        started.append(launched.start(words, 2, tmp_path / "said", prepare))
        return started[-1]

    yield begin
    for ranks in started:
        ranks.kill()


def last_line(ranks, rank):
    return (ranks.said()[rank].splitlines() or [""])[-1]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_that_one_rank_finds_before_it_meets_the_others_ends_them_too(rank, two_ranks, tmp_path):
    ranks = two_ranks(600.0, refusing_0 if rank == 0 else refusing_1)
    assert ranks.codes(120) == [2, 2], ranks.said()
    assert last_line(ranks, rank) == "error: no experiment of this name on this machine"
    # Rank 0 speaks for the machine; rank 1, where rank 0 has spoken itself, has nothing to add.
    told = "error: rank 1: no experiment of this name on this machine"
    assert last_line(ranks, 1 - rank) == (told if rank == 1 else "")
    assert not (tmp_path / "runs").exists()


def test_a_mistake_that_all_ranks_make_ends_each_at_once(two_ranks):
    ranks = two_ranks(600.0, refusing)
    assert ranks.codes(120) == [2, 2], ranks.said()
    assert ranks.said() == ["error: no experiment of this name on this machine\n"] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_never_comes_is_named(rank, two_ranks):
    ranks = two_ranks(2.0, absent_0 if rank == 0 else absent_1)
    assert ranks.codes(120)[1 - rank] == 2, ranks.said()
    place = rf"127\.0\.0\.1:{ranks.port}"
    told = {
        0: rf"error: rank 1 of 2 cannot use {place}, where the ranks meet \(.+\); look at MASTER_ADDR",
        1: rf"error: rank 1 of 2 did not come to {place} within 2 s; look at what it says",
    }
    assert re.search(told[rank], ranks.said()[1 - rank]), ranks.said()


@pytest.mark.slow
def test_a_rank_that_dies_between_roll_call_and_process_group_does_not_hold_up_the_other(two_ranks):
    ranks = two_ranks(10.0, dying)
    assert ranks.codes(120) == [1, -signal.SIGKILL], ranks.said()
    assert last_line(ranks, 0).startswith("error: all ranks came, but their process group is not there 10 s later")


def refusing():
    def load(*arguments):
        raise UserError("no experiment of this name on this machine")

    command.load_experiment = load


def refusing_0():
    if os.environ["RANK"] == "0":
        refusing()


def refusing_1():
    if os.environ["RANK"] == "1":
        refusing()


def absent_0():
    if os.environ["RANK"] == "0":
        os._exit(3)


def absent_1():
    if os.environ["RANK"] == "1":
        os._exit(3)


def dying():
    if os.environ["RANK"] == "1":
        runtime.Accelerator = lambda **options: os.kill(os.getpid(), signal.SIGKILL)
