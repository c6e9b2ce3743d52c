"""`hmgan evaluate` on two ranks, each drawing half of the fakes, gives what one process gives, to the last bit."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import tiny

PER_CLASS = 70  # two batches, of which each rank has one


def evaluate_on_two_ranks(run: Path, cache: Path) -> list[str]:
    """What each rank printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "HMGAN_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "hmgan", "evaluate", str(run), "--per-class", str(PER_CLASS)]
    ranks = [
        subprocess.Popen(
            command,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        told = [rank.communicate(timeout=180) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(err for _, err in told)
    return [out for out, _ in told]


def test_two_ranks_share_the_work_and_one_of_them_writes_the_same_scores(shards, source, tmp_path) -> None:
    train = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 4)
    assert tiny.command(*train, "--kimg", 0.004, *tiny.options(train__trackers="[]")) == 0
    (run,) = (tmp_path / "runs").iterdir()
    first, second = evaluate_on_two_ranks(run, tmp_path / "cache")
    assert "FD-squeezenet" in first
    assert second == ""  # it knows that it is not alone
    assert tiny.command("evaluate", run, "--per-class", PER_CLASS) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    together, alone = lines[:8], lines[8:]
    assert len(together) == len(alone) == 2 * 4
    for line in lines:
        del line["time"]
    assert together == alone
