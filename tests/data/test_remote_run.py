"""`hmgan train` from an object store: killed, resumed, and the same as from the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import faulty_s3
import pytest
import tiny
from safetensors.numpy import load_file

from hmgan.data.store.stores import open_store

TIMEOUT = 1200  # seconds; 20 on an idle machine


def hmgan(*words: object) -> list[str]:
    return [sys.executable, "-m", "hmgan", "train", *map(str, words)]


def train(data, source, outdir) -> list[str]:
    options = tiny.options(
        data=data, source=source, train__batch=4, train__kimg=0.12, train__tick=0.06, train__snap=0.04,
        loader__workers=1, train__trackers="[]", compute__threads=1,
    )  # fmt: skip
    return hmgan("hyper-mod-b", "--outdir", outdir, *options)


def alone(place) -> str:
    return str(place)


def mixed(place) -> str:
    """The set's classes in shares, as two sources."""
    return f'{{sources = ["{place}", "{place}"], weights = [2, 1], balance = true, classes = ["cat", "ant"]}}'


@pytest.mark.slow
@pytest.mark.parametrize("data", [alone, mixed])
def test_a_run_from_s3_that_is_killed_and_resumed_equals_the_local_run(data, s3, shards, source, tmp_path, monkeypatch):
    monkeypatch.setenv("HMGAN_CACHE", str(tmp_path / "cache"))
    url = f"s3://{faulty_s3.BUCKET}/{tmp_path.name}"
    for path in sorted(shards.iterdir()):
        open_store(url).put(path.name, path.read_bytes())
    subprocess.run(train(data(shards), source, tmp_path / "local"), check=True, timeout=TIMEOUT)
    with subprocess.Popen(train(data(url), source, tmp_path / "remote")) as process:
        deadline = time.monotonic() + TIMEOUT
        while not list(tmp_path.glob("remote/*/checkpoints/0*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not list(tmp_path.glob("remote/*/checkpoints/000000030"))
    (tmp_path / "cache").rename(tmp_path / "lost")  # on another machine
    subprocess.run(
        hmgan("hyper-mod-b", "--outdir", tmp_path / "remote", "--resume", "latest"), check=True, timeout=TIMEOUT
    )
    local, remote = (next(tmp_path.glob(f"{kind}/*")) for kind in ("local", "remote"))
    assert "resumed" in (remote / "log.txt").read_text()
    # The networks, their optimisers and the average, and what was kept of G.
    for last in ("checkpoints/000000030/state.safetensors", "snapshots/000000.120/model.safetensors"):
        wanted, got = load_file(local / last), load_file(remote / last)
        assert wanted.keys() == got.keys()
        assert all((wanted[name] == got[name]).all() for name in wanted)
    for path in (*remote.rglob("*.json*"), *remote.rglob("*.txt")):
        assert faulty_s3.SECRET not in path.read_text()
        assert faulty_s3.KEY not in path.read_text()
