"""Checkpoints are written while the training goes on, one at a time, and a failed write is told."""

from __future__ import annotations

import subprocess
import threading

import pytest
import tiny
import torch
from torch import nn

from hmgan.errors import UserError
from hmgan.train import checkpoint
from hmgan.train.checkpoint import Saver

TRAIN = tiny.options(train__batch=4, train__tick=0.004, train__snap=0.008, train__trackers="[]", compute__threads=1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


class Gate:
    """In place of `checkpoint.write`: waits to be opened, and counts how many wait at once."""

    def __init__(self):
        self.open, self.inside, self.most = threading.Event(), 0, 0
        self._write = checkpoint.write

    def __call__(self, *args):
        self.inside += 1
        self.most = max(self.most, self.inside)
        assert self.open.wait(10)
        self._write(*args)
        self.inside -= 1


def test_what_is_written_is_what_was_there_when_it_was_saved(network, tmp_path, monkeypatch):
    gate = Gate()
    monkeypatch.setattr(checkpoint, "write", gate)
    expected = network.weight.detach().clone()
    with Saver(tmp_path, 2) as saver:
        saver.save(5, {"network": network}, {"step": 5})
        with torch.no_grad():
            network.weight.zero_()  # the training goes on
        gate.open.set()
    assert checkpoint.load(tmp_path / "000000005", {"network": network})["step"] == 5
    assert torch.equal(network.weight, expected)


def test_the_next_one_waits_for_the_one_before_and_old_ones_go(network, tmp_path, monkeypatch):
    gate = Gate()
    gate.open.set()
    monkeypatch.setattr(checkpoint, "write", gate)
    with Saver(tmp_path, 2) as saver:
        for step in range(1, 6):
            saver.save(step, {"network": network}, {"step": step})
    assert gate.most == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000004", "000000005"]


def full(*_):
    raise UserError("no room")


def test_a_failed_write_is_told_by_the_next_check_and_at_the_end(network, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write", full)
    with Saver(tmp_path, 2) as saver:
        saver.save(1, {"network": network}, {"step": 1})
        with pytest.raises(UserError, match=r"^no room$"):
            saver.wait()
        saver.check()  # told once
    saver = Saver(tmp_path, 2)
    with pytest.raises(UserError, match=r"^no room$"), saver:
        saver.save(1, {"network": network}, {"step": 1})


def test_a_failed_write_does_not_hide_what_ended_the_run(network, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "write", full)

    def train():
        with Saver(tmp_path, 2) as saver:
            saver.save(1, {"network": network}, {"step": 1})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2.5 MB, and how to give it more room."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(size):
        how = f"size={size}" if not disk.is_mount() else f"remount,size={size}"
        return subprocess.run(["mount", "-t", "tmpfs", "-o", how, "tmpfs", str(disk)], capture_output=True, text=True)

    made = mount("2500k")
    if made.returncode:
        # Mounting takes root's rights; a disk that is full cannot be had otherwise.
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield disk, lambda: mount("50m")
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_the_run_in_one_line_and_costs_no_checkpoint(small_disk, shards, source, tmp_path, capsys):
    disk, enlarge = small_disk
    arguments = ["train", "hyper-mod-b", "--data", shards, "--source", source, "--kimg", 0.08, *TRAIN]
    assert tiny.command(*arguments, "--outdir", disk) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(("error: no room left for ", "error: checkpoint "))
    assert "whole: make room, and --resume" in error
    (folder,) = disk.iterdir()
    checkpoints = folder / "checkpoints"
    left = checkpoint.stored(checkpoints)
    assert left
    assert not list(folder.rglob("*.partial"))
    enlarge()
    assert tiny.command("train", "hyper-mod-b", "--resume", folder) == 0
    assert f"resumed  {folder} at kimg {int(left[0].name) * 4 / 1000:.3f}" in capsys.readouterr().err
    assert tiny.command(*arguments, "--outdir", tmp_path / "whole") == 0
    (whole,) = (tmp_path / "whole").iterdir()
    written = [path / "checkpoints" / "000000020" / checkpoint.TENSORS for path in (folder, whole)]
    assert written[0].read_bytes() == written[1].read_bytes()
