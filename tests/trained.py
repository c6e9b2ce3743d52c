"""Short runs of the tiny world, and what their generators draw."""

from __future__ import annotations

import os
import time

import pytest
import tiny
import torch

from hmgan.train.prepare import prepare
from hmgan.train.run import run_training
from hmgan.train.snapshot import Snapshots
from hmgan.train.trainer import Trainer


def trained(shards, source, folder, *overrides):
    """A run of two steps, one snapshot each; its averaged generator and its folder."""
    kept = []
    settings = ("train.kimg=0.008", "train.snap=0.004", "optimizer.lr=0.1", *overrides)
    prepared = prepare(tiny.transfer(shards, source, *settings))
    write = Snapshots.write

    def keep(self, trainer, kimg):
        kept.append(trainer)
        write(self, trainer, kimg)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Snapshots, "write", keep)
        folder.mkdir()
        run_training(prepared, folder)
    return kept[-1].task.averaged(), folder


def images(generator):
    labels = torch.tensor([2, 0, 1, 1])
    with torch.no_grad():
        return generator(generator.latents(range(4), 0.9), labels, 0.7).image


def signalled_in(monkeypatch, step, number):
    """A signal arrives in the middle of that step."""
    original = Trainer._minimise

    def act(self, phase, parts):
        if self.step == step and phase.average is not None:
            os.kill(os.getpid(), number)
            deadline = time.monotonic() + 10
            while not self.runtime.stop.requested:  # a thread takes it from the pipe
                assert time.monotonic() < deadline
                time.sleep(0.001)
        return original(self, phase, parts)

    monkeypatch.setattr(Trainer, "_minimise", act)
