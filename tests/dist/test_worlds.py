"""A run that goes on at another number of ranks is, within rounding, the run that stayed at one."""

from __future__ import annotations

import launched
import pytest
import tiny
import torch
from safetensors.torch import load_file

from hmgan.train import checkpoint

# 12 images divide over 1, 2, 3 and 4 ranks. Everything that a split could change: views, lazy R1, mixing, the stddev.
SETTINGS = tiny.options(
    r1__every=3,
    train__batch=12,
    train__mixing=0.9,
    train__mirror="true",
    train__tick=0.012,
    train__snap=100,
    train__trackers="[]",
    train__threads=1,
    train__contrastive_weight=0.1,
    discriminator__stddev_group=1,
)
TOLERANCE = 1e-4  # of each tensor's largest entry; float32, three steps per world


def whole_and_rescaled(shards, source, tmp_path, worlds):
    """The last checkpoints of a run on one rank, and of one that went through these worlds, three steps each."""
    begin = ["train", "hyper-mod-c", "--data", shards, "--source", source, *SETTINGS]

    def train(outdir, ranks, kimg, resume):
        where = ["--resume", "latest", "--outdir", outdir] if resume else [*begin[2:], "--outdir", outdir]
        running = launched.start([*begin[:2], *where, "--kimg", kimg], ranks, tmp_path / "said")
        assert running.codes() == [0] * ranks, running.said()

    kimg = [0.036 * (i + 1) for i in range(len(worlds))]
    train(tmp_path / "whole", 1, kimg[-1], resume=False)
    for i, ranks in enumerate(worlds):
        train(tmp_path / "cut", ranks, kimg[i], resume=i > 0)
    runs = [next((tmp_path / name).iterdir()) for name in ("whole", "cut")]
    newest = [checkpoint.newest(run / "checkpoints") for run in runs]
    assert newest[0].name == newest[1].name == f"{3 * len(worlds):09d}"
    return [load_file(folder / checkpoint.TENSORS) for folder in newest]


def assert_equal_within_rounding(whole, rescaled):
    assert whole.keys() == rescaled.keys()
    worst = 0.0
    for name, expected in whole.items():
        scale = float(expected.abs().max()) or 1.0
        error = float((rescaled[name] - expected).abs().max()) / scale
        worst = max(worst, error)
        assert error < TOLERANCE, f"{name}: {error:.1e} of its largest entry"
    assert not all(torch.equal(whole[name], rescaled[name]) for name in whole)  # it did compute it another way
    print(f"largest difference {worst:.1e}")


@pytest.mark.slow
def test_two_ranks_then_three_then_one_equal_one_throughout(shards, source, tmp_path):
    assert_equal_within_rounding(*whole_and_rescaled(shards, source, tmp_path, (2, 3, 1)))


@pytest.mark.slow
def test_four_ranks_then_two_then_three_equal_one_throughout(shards, source, tmp_path):
    assert_equal_within_rounding(*whole_and_rescaled(shards, source, tmp_path, (4, 2, 3)))
