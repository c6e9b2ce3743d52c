"""Memory that a command does not get is one line, whoever asked for it."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from test_cli import refused, train

TOO_LARGE = {
    "torch": lambda: torch.empty(2**60, dtype=torch.uint8),
    "torch, beyond any address": lambda: torch.empty(2**62, 8),
    "numpy": lambda: np.empty(2**60, np.uint8),
    "Python": lambda: bytearray(2**60),
    "the files of a device": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")),
}


@pytest.mark.parametrize("asking", TOO_LARGE)
def test_memory_that_there_is_not_is_one_line(asking, monkeypatch, capsys):
    monkeypatch.setattr("hmgan.commands.listing.print_list", lambda kind: next(TOO_LARGE[asking]()))
    got = refused(capsys, "list")
    assert got.startswith("not enough memory")
    assert got.endswith("; make the batch or the images smaller")


def test_another_error_of_torch_is_not_called_one_of_memory(monkeypatch):
    monkeypatch.setattr("hmgan.commands.listing.print_list", lambda kind: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        tiny.command("list")


def test_a_batch_beyond_the_machine_is_refused_before_a_run_is_made(shards, source, tmp_path, capsys):
    words = train(tmp_path / "runs", shards, source, "--kimg", 0.004)
    got = refused(capsys, *words, "--batch", 10**10)
    assert got.startswith("train.batch 10000000000: the images of a rank alone take ")
    assert not (tmp_path / "runs").exists()
    assert tiny.command(*words, "--batch", 10**10, "--dry-run") == 0
