"""What becomes of two ranks when something happens to one of them."""

from __future__ import annotations

import signal

import launched
import pytest
import tiny

from hmgan.train import checkpoint

SETTINGS = tiny.options(train__batch=8, train__tick=0.008, train__snap=100, train__trackers="[]", train__threads=1)


def arguments(shards, source, outdir, *more):
    """A run of 5000 steps, which no test here waits for."""
    where = ["--data", shards, "--source", source, "--outdir", outdir]
    return ["train", "hyper-mod-b", *where, "--kimg", 40, *SETTINGS, *more]


@pytest.fixture
def two_ranks(shards, source, tmp_path):
    """Starts two ranks and waits until they train."""
    started = []

    def begin(*more, prepare=None):
        ranks = launched.start(arguments(shards, source, tmp_path / "runs", *more), 2, tmp_path / "said", prepare)
        started.append(ranks)
        ranks.until(lambda: list((tmp_path / "runs").glob("*-gpus2-*/stats.jsonl")))
        return ranks

    yield begin
    for ranks in started:
        ranks.kill()


def test_a_signal_to_one_rank_stops_both_after_the_same_step(two_ranks, tmp_path):
    ranks = two_ranks()
    ranks.signal(1, signal.SIGTERM)
    assert ranks.codes() == [85, 85], ranks.said()
    (folder,) = (tmp_path / "runs").iterdir()
    saved = checkpoint.newest(folder / "checkpoints")
    line = f"stopped  by another rank at kimg {int(saved.name) * 8 / 1000:.3f}; checkpoint {saved.name} is saved"
    assert line in (folder / "log.txt").read_text()
    assert "stopped" not in ranks.said()[1]  # rank 0 speaks for all
