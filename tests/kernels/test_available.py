"""Kernels run where they are asked for; where they cannot, torch's code does, and a run's first line says why."""

from __future__ import annotations

import shutil
import types

import pytest
import tiny
import torch

from hmgan.kernels import available
from hmgan.layers.passes import BY_LAYERS, Passing
from hmgan.train import precision


@pytest.mark.parametrize(
    ("capability", "triton", "compiler", "said"),
    [
        ((9, 0), True, True, ""),
        ((7, 5), True, True, "a GPU of compute capability 8.0 or higher is needed"),
        ((9, 0), False, True, "Triton is not installed"),
        ((9, 0), True, False, "Triton needs a C compiler"),
    ],
)
def test_what_is_lacking_is_named(capability, triton, compiler, said, tmp_path, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    spec = types.SimpleNamespace() if triton else None
    monkeypatch.setattr(available.importlib.util, "find_spec", lambda _: spec)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if compiler else None)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(available.sysconfig, "get_path", lambda _: str(tmp_path))
    assert available.lacking(torch.device("cuda")) == said


def test_kernels_that_are_asked_for_and_lack_something_leave_the_layers_and_a_line(shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, "compute.kernels=auto"), tmp_path)
    for network in (trainer.task.generator, trainer.task.discriminator):
        parts = [m for m in network.modules() if isinstance(m, Passing)]
        assert parts
        assert all(part.passes is BY_LAYERS for part in parts)
    assert trainer.task.summary().endswith("; torch's kernels, no CUDA device")


def test_by_default_the_layers_run_where_kernels_could_and_nothing_is_said(shards, source, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "lacking", lambda _: "")
    trainer = tiny.make_trainer(tiny.transfer(shards, source), tmp_path)
    assert all(m.passes is BY_LAYERS for m in trainer.task.discriminator.modules() if isinstance(m, Passing))
    assert "kernels" not in trainer.task.summary()
