"""Presets of published configurations: each can begin, and its batches are those of the release."""

from __future__ import annotations

import pytest
import tiny
from PIL import Image

from hmgan.config.loading import load_experiment

PRESETS = {
    "pretrain-stylegan2-auto-256": (256, 64, 0.0025, 0.0025, 20.0),
    "pretrain-stylegan2-cifar-32": (32, 64, 0.0025, 0.0025, 500.0),
    "pretrain-stylegan2-config-f-1024": (1024, 32, 0.002, 0.002, 10.0),
    "pretrain-stylegan2-paper256": (256, 64, 0.0025, 0.0025, 20.0),
    "pretrain-stylegan3-r-256": (256, 32, 0.0025, 0.002, 10.0),
    "pretrain-stylegan3-t-256": (256, 32, 0.0025, 0.002, 10.0),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_preset_has_the_releases_batch_rates_and_average(name):
    experiment = load_experiment(name, ())
    _, batch, gen_lr, disc_lr, kimg = PRESETS[name]
    optimizer, own = experiment.optimizer, experiment.ema.kimg
    assert experiment.train.batch == batch
    assert (optimizer.lr, round(optimizer.lr * optimizer.disc_mult, 9)) == (gen_lr, disc_lr)
    assert (batch * 10 / 32 if own == "auto" else own) == kimg


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_preset_passes_a_dry_run(name, tmp_path, capsys):
    pixels = PRESETS[name][0]
    for i in range(64):
        file = tmp_path / "images" / "all" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (pixels, pixels), (i, 0, 0)).save(file)
    assert tiny.command("pack", tmp_path / "images", tmp_path / "data") == 0
    where = ("--data", tmp_path / "data", "--outdir", tmp_path / "runs", "--dry-run")
    assert tiny.command("pretrain", name, *where) == 0
    assert "dry run: nothing was trained or written" in capsys.readouterr().out
