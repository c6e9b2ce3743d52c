"""`hmgan train` on two ranks that each write their share: stopped, gone on with elsewhere, damaged, out of room."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import launched
import pytest
import tiny
import torch
from safetensors.torch import load_file

from hmgan.train import checkpoint, shares

SETTINGS = tiny.options(train__tick=0.008, train__snap=0.016, train__trackers="[]", compute__threads=1)
DIVIDED = tiny.options(compute__engine__name="fsdp2", compute__engine__unit=50, compute__checkpoint="sharded")


def train(folder: Path, arguments: list[object], world: int = 2, prepare=None):
    return launched.end(["train", "hyper-mod-b", *arguments], folder, world, prepare)


@pytest.fixture
def where(shards, source, tmp_path):
    return ["--data", shards, "--source", source, "--outdir", tmp_path / "runs", "--batch", 8, *SETTINGS, *DIVIDED]


def run_of(tmp_path: Path, number: int = 0) -> Path:
    (run,) = (tmp_path / "runs").glob(f"{number:05d}-*")
    return run


def whole(run: Path, step: int, out: Path) -> dict[str, torch.Tensor]:
    """A checkpoint of either form."""
    folder = run / "checkpoints" / f"{step:09d}"
    if (folder / checkpoint.TENSORS).exists():
        return load_file(folder / checkpoint.TENSORS)
    assert tiny.command("export", folder, out) == 0
    return load_file(out / checkpoint.TENSORS)


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(x, b[name]) for name, x in a.items())


@pytest.mark.slow
def test_a_run_that_is_stopped_and_gone_on_with_is_the_run_that_was_not(where, tmp_path):
    codes, said = train(tmp_path / "straight", [*where, "--kimg", 0.064])
    assert codes == [0, 0], said
    # Stopped off the beat of snapshots, by a signal to the second rank.
    words = ["train", "hyper-mod-b", *where, "--kimg", 40]
    launched.stop(words, tmp_path / "stopped", lambda: list((tmp_path / "runs").glob("00001-*/stats.jsonl")))
    run = run_of(tmp_path, 1)
    saved = checkpoint.newest(run / "checkpoints")
    assert f"checkpoint {saved.name} is saved" in (run / "log.txt").read_text()
    assert json.loads((saved / checkpoint.STATE).read_text())["shares"].keys() == {
        f"share-0000{rank}-of-00002.safetensors" for rank in (1, 2)
    }
    until = max(0.064, 0.008 * int(saved.name) + 0.008)
    codes, said = train(tmp_path / "on", ["--resume", run, "--kimg", until])
    assert codes == [0, 0], said
    if until > 0.064:  # a slow machine: the straight run goes as far
        assert train(tmp_path / "further", ["--resume", run_of(tmp_path), "--kimg", until])[0] == [0, 0]
    step = round(until / 0.008)
    straight, on = (whole(run_of(tmp_path, i), step, tmp_path / f"merged{i}") for i in (0, 1))
    assert same(straight, on)
    assert len(checkpoint.stored(run / "checkpoints")) == 2
    assert not list(run.rglob(".*.partial"))


@pytest.mark.slow
def test_another_engine_and_world_go_on_with_it_and_a_class_takes_its_d_from_it(where, tmp_path):
    codes, said = train(tmp_path / "first", [*where, "--kimg", 0.016])
    assert codes == [0, 0], said
    run = run_of(tmp_path)
    assert tiny.command("export", run, tmp_path / "bee", "--class", "bee") == 0
    assert (tmp_path / "bee" / "discriminator.safetensors").is_file()
    alone = tiny.options(compute__engine="replicated", compute__checkpoint="whole")
    codes, said = train(tmp_path / "second", ["--resume", run, "--kimg", 0.032, *alone], world=1)
    assert codes == [0], said
    assert (run / "checkpoints" / "000000004" / checkpoint.TENSORS).is_file()
    # And back: shares of what one file holds.
    codes, said = train(tmp_path / "third", ["--resume", run, "--kimg", 0.048, *DIVIDED])
    assert codes == [0, 0], said
    assert len(list((run / "checkpoints" / "000000006").glob("share-*"))) == 2


@pytest.mark.slow
def test_a_damaged_share_is_told_and_the_checkpoint_before_it_is_taken(where, tmp_path):
    codes, said = train(tmp_path / "first", [*where, "--kimg", 0.032])
    assert codes == [0, 0], said
    run = run_of(tmp_path)
    newest, before = checkpoint.stored(run / "checkpoints")
    share = newest / "share-00002-of-00002.safetensors"
    content = share.read_bytes()
    share.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    codes, said = train(tmp_path / "second", ["--resume", run, "--kimg", 0.032])
    assert codes == [0, 0], said
    told = f"warning: checkpoint {newest} is damaged: its checksum does not match; renamed to damaged-{newest.name}"
    assert told in (run / "log.txt").read_text()
    assert f"at kimg {8 * int(before.name) / 1000:.3f}" in (run / "log.txt").read_text()
    assert [path.name for path in checkpoint.stored(run / "checkpoints")] == ["000000004", "000000002"]


def full_on_the_second_rank() -> None:
    """In place of the writing of a file, where a rank's disk is full."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if os.environ["RANK"] == "1":
        shares.save_file = fail


@pytest.mark.slow
def test_a_rank_without_room_ends_the_run_in_one_line_and_leaves_nothing_half_written(where, tmp_path):
    codes, said = train(tmp_path / "said", [*where, "--kimg", 0.064], prepare=partial(full_on_the_second_rank))
    assert codes == [2, 2], said
    run = run_of(tmp_path)
    folder = run / "checkpoints" / "000000002"
    reason = "[Errno 28] No space left on device; those before it are whole: make room, and --resume"
    assert f"error: checkpoint {folder} cannot be written: {reason}" in said
    assert "Traceback" not in said, said
    assert list((run / "checkpoints").iterdir()) == []
