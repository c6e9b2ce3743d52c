"""What becomes of two ranks when something happens to one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from unittest.mock import patch

import launched
import pytest
import tiny
import torch

from hmgan.data import named
from hmgan.errors import UserError
from hmgan.train import checkpoint
from hmgan.train.distributed.flight import FOLDER
from hmgan.train.distributed.watchdog import BEAT
from hmgan.train.tasks import gan

SETTINGS = tiny.options(train__batch=8, train__tick=0.008, train__snap=100, train__trackers="[]", compute__threads=1)
SOON = tiny.options(train__timeout=8.0)


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


def test_a_killed_rank_is_named_and_ends_the_other_which_keeps_its_last_collectives(two_ranks, tmp_path):
    ranks = two_ranks()
    time.sleep(2.5 * BEAT)  # until each has told the other where it is
    ranks.signal(1, signal.SIGKILL)
    assert ranks.codes(60) == [1, -signal.SIGKILL], ranks.said()
    line = last_line(ranks, 0)
    # Where it was: the phase, and its stack.
    found = r"error: rank 1: gave no sign of life for \d+ s; last seen in step \d+, [DG] phase, \S+:\d+ \S+ < "
    assert re.match(found, line), line
    (record,) = (tmp_path / "runs").glob(f"*/{FOLDER}/*.json")
    assert record.name == "rank0.json"
    assert json.loads(record.read_text())["entries"][-1]["profiling_name"].startswith("gloo:")


def test_a_killed_rank_0_is_named_too_and_no_port_stays_taken(two_ranks):
    ranks = two_ranks()
    time.sleep(2.5 * BEAT)
    ranks.signal(0, signal.SIGKILL)
    assert ranks.codes(60) == [-signal.SIGKILL, 1], ranks.said()
    assert re.match(r"error: rank 0: no longer answers; last seen in step \d+, [DG] phase, ", last_line(ranks, 1))
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections are no listener
        again.bind(("127.0.0.1", ranks.port))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_rank_is_named_in_time_and_ends_once_it_goes_on(rank, two_ranks):
    ranks, other = two_ranks(*SOON), 1 - rank
    time.sleep(2.5 * BEAT)  # until each has told the other where it is
    ranks.signal(rank, signal.SIGSTOP)
    assert ranks.codes(60, of=slice(other, other + 1)) == [1], ranks.said()
    what = "no longer answers" if rank == 0 else r"gave no sign of life for \d s"
    assert re.match(rf"error: rank {rank}: {what}; last seen in step \d+, [DG] phase, ", last_line(ranks, other))
    ranks.signal(rank, signal.SIGCONT)
    assert ranks.codes(60)[rank] == 1, ranks.said()


def test_a_user_error_on_one_rank_ends_both_with_its_message(two_ranks):
    ranks = two_ranks(prepare=refusing)
    assert ranks.codes(60) == [2, 2], ranks.said()
    assert last_line(ranks, 1) == "error: this image is broken; pack it again"
    assert last_line(ranks, 0) == "error: rank 1: this image is broken; pack it again"


def test_a_bug_on_one_rank_is_what_both_say_not_its_consequences(two_ranks):
    ranks = two_ranks(prepare=stumbling)
    assert ranks.codes(60) == [1, 1], ranks.said()
    assert last_line(ranks, 1) == "ZeroDivisionError: no such luck"
    assert last_line(ranks, 0) == "error: rank 1: ZeroDivisionError: no such luck"


@pytest.mark.slow
def test_a_rank_that_hangs_is_told_from_those_that_wait_for_it(two_ranks):
    ranks = two_ranks(*SOON, prepare=hanging)
    assert ranks.codes(60) == [1, 1], ranks.said()
    line = r"error: rank 1: has not moved on for \d s \(train.timeout\) in step 2, G phase, test_faults.py:\d+ hang"
    assert all(re.match(line, last_line(ranks, rank)) for rank in range(2)), ranks.said()
    assert re.search(r'File ".*test_faults.py", line \d+ in hang', ranks.said()[1])  # faulthandler's own


def test_rank_0_failing_before_the_run_does_not_leave_the_other_waiting(shards, source, tmp_path):
    ranks = launched.start(arguments(shards, source, tmp_path), 2, tmp_path / "said", without_data)
    try:
        assert ranks.codes(60) == [2, 2], ranks.said()
    finally:
        ranks.kill()
    assert last_line(ranks, 0) == "error: the disk is gone"
    assert "rank 0" not in last_line(ranks, 1)  # rank 0 has spoken for this machine


def test_what_is_not_finite_on_one_rank_stops_both_and_one_speaks(two_ranks):
    ranks = two_ranks(prepare=poisoned)
    assert ranks.codes(60) == [2, 2], ranks.said()
    found = [line for text in ranks.said() for line in text.splitlines() if line.startswith("error")]
    assert len(found) == 1, ranks.said()
    assert re.match(r"error: step 2, G phase: loss/G is nan; images .*; lower optimizer.lr", found[0])


def last_line(ranks, rank):
    lines = ranks.said()[rank].splitlines()
    return lines[-1] if lines else ""


def in_step_2(act):
    """Replaces G's loss on rank 1 by `act` of it, in that step."""
    original = gan.gen_loss

    def gen_loss(*args):
        loss, stats = original(*args)
        step = args[-2].draws.step
        return act(loss, stats) if step == 2 and os.environ["RANK"] == "1" else (loss, stats)

    gan.gen_loss = gen_loss


def refuse(loss, stats):
    raise UserError("this image is broken; pack it again")


def stumble(loss, stats):
    raise ZeroDivisionError("no such luck")


def hang(loss, stats):
    while True:
        time.sleep(1)


def poison(loss, stats):
    return loss * torch.nan, {"loss/G": loss * torch.nan}


def refusing():
    in_step_2(refuse)


def stumbling():
    in_step_2(stumble)


def hanging():
    in_step_2(hang)


def poisoned():
    in_step_2(poison)


def without_data():
    def fail(*arguments, **options):
        raise UserError("the disk is gone")

    if os.environ["RANK"] == "0":
        patch.object(named, "open_training", fail).start()
