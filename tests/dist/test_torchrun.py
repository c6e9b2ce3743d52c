"""Under torchrun, which passes signals on and ends the other ranks by itself, the same things happen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import launched
import pytest
import tiny

from hmgan.train import checkpoint
from hmgan.train.distributed.watchdog import BEAT

SETTINGS = tiny.options(train__batch=8, train__tick=0.008, train__snap=100, train__trackers="[]", compute__threads=1)
DEADLINE = 600  # seconds; on a machine at rest it is seconds


@pytest.fixture
def torchrun(shards, source, tmp_path):
    """Two ranks that train, under torchrun; the launcher, and the ranks' process ids."""
    arguments = ["train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path / "runs"]
    launcher = ["torch.distributed.run", "--nproc_per_node", 2, "--master_port", launched.free_port(), "-m", "hmgan"]
    words = map(str, [sys.executable, "-m", *launcher, *arguments, "--kimg", 40, *SETTINGS])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(list(words), env=environment, stdout=said, stderr=said)
    deadline = time.monotonic() + DEADLINE
    while not list((tmp_path / "runs").glob("*-gpus2-*/stats.jsonl")):
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        ranks = sorted(map(int, file.read().split()), key=rank_of)
    assert [rank_of(pid) for pid in ranks] == [0, 1]
    yield process, ranks
    for pid in filter(alive, ranks):
        os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def rank_of(pid):
    with open(f"/proc/{pid}/environ") as file:
        return int(re.search(r"\0RANK=(\d+)", file.read())[1])


def alive(pid):
    return os.path.exists(f"/proc/{pid}")


@pytest.mark.slow
def test_sigterm_to_torchrun_saves_and_leaves(torchrun, tmp_path):
    process, ranks = torchrun
    process.send_signal(signal.SIGTERM)
    code = process.wait(DEADLINE)
    said = (tmp_path / "said.txt").read_text()
    assert code == 1, said  # torchrun's own, whatever the ranks' was
    (folder,) = (tmp_path / "runs").iterdir()
    saved = checkpoint.newest(folder / "checkpoints")
    assert f"stopped  by SIGTERM at kimg {int(saved.name) * 8 / 1000:.3f}; checkpoint {saved.name} is saved" in said
    assert not any(map(alive, ranks))


@pytest.mark.slow
def test_a_killed_rank_is_named_under_torchrun_and_nothing_is_left_running(torchrun, tmp_path):
    process, ranks = torchrun
    time.sleep(2.5 * BEAT)  # until each has told the other where it is
    os.kill(ranks[1], signal.SIGKILL)
    code = process.wait(DEADLINE)
    said = (tmp_path / "said.txt").read_text()
    assert code != 0
    assert re.search(r"^error: rank 1: gave no sign of life for \d+ s; last seen in step \d+", said, re.MULTILINE), said
    assert not any(map(alive, ranks))
