"""A signal during the scores of two ranks: both leave them together, and the resumed run makes them."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from unittest.mock import patch

import launched
import pytest
import tiny

from hmgan.evaluation.judge import Judge

SETTINGS = tiny.options(train__batch=8, train__snap=0.008, train__trackers="[]", evaluation__per_class=2)


def at_work(name, rank, at):
    """In a rank: told to stop in its call number `at` of a method of Judge."""
    if os.environ["RANK"] != str(rank):
        return
    original, calls = getattr(Judge, name), []

    def told(judge, *given):
        calls.append(given)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + 10
            while not judge.ranks.stop.requested:  # a thread takes it from the pipe
                assert time.monotonic() < deadline
                time.sleep(0.001)
        return original(judge, *given)

    patch.object(Judge, name, told).start()


def codes(words, folder, prepare=None):
    """Exit codes of both ranks, and what they said."""
    ranks = launched.start(words, 2, folder, prepare)
    try:
        return ranks.codes(180), ranks.said()
    finally:
        ranks.kill()


def metrics(run):
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


@pytest.fixture(scope="module")
def begin(shards, source):
    """The command of a run into a folder."""
    return lambda outdir: [
        *["train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.016],
        *SETTINGS,
    ]


@pytest.fixture(scope="module")
def whole(begin, tmp_path_factory):
    """The scores of a run that is not told to stop."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HMGAN_CACHE", str(folder / "cache"))
        ended, said = codes(begin(folder / "runs"), folder / "said")
    assert ended == [0, 0], said
    return metrics(next((folder / "runs").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rank", "at", "kimg"),
    [
        ("features_of", 1, 1, None),  # of the reals, before there is a run
        ("drawn", 0, 2, 0.0),
        ("drawn", 1, 2, 0.0),
        ("drawn", 1, 4, 0.0),  # the source, beside the first scores
        ("drawn", 1, 6, 0.008),
        ("_scored", 0, 1, 0.0),  # what rank 0 does while rank 1 waits
        ("_scored", 0, 3, 0.016),
    ],
)
def test_both_ranks_leave_the_scores_and_the_resumed_run_makes_them(
    name, rank, at, kimg, begin, whole, tmp_path, monkeypatch
):
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))  # so that features and references are made
    ended, said = codes(begin(tmp_path / "runs"), tmp_path / "cut", partial(at_work, name, rank, at))
    assert ended == [85, 85], said
    (run,) = (tmp_path / "runs").iterdir()
    reason = "SIGTERM" if rank == 0 else "another rank"
    assert f"stopped  by {reason} {'before it began' if kimg is None else f'at kimg {kimg:.3f}'}" in said[0]
    assert ("SIGTERM: stops after this step or snapshot" in said[0]) is (rank == 0)
    assert len(metrics(run)) < len(whole)
    ended, said = codes(["train", "--resume", run], tmp_path / "resumed")
    assert ended == [0, 0], said
    assert metrics(run) == whole
