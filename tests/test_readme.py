"""The README's own examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from hmgan.cli import app

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_component_of_the_readme_is_found_by_its_entry_point_and_trains_a_step(
    tmp_path: Path, source: Path, shards: Path
) -> None:
    (tmp_path / "my_losses.py").write_text(blocks("python")[0])
    points = tmp_path / "my_losses-1.0.dist-info"
    points.mkdir()
    (points / "METADATA").write_text("Metadata-Version: 2.1\nName: my-losses\nVersion: 1.0\n")
    (points / "entry_points.txt").write_text(blocks("toml")[0].replace("project.entry-points.", "").replace('"', ""))
    command = f"train hyper-mod-b --source {source} --data {shards} --kimg 0.004 --batch 4 --outdir {tmp_path / 'runs'}"
    options = ["contrastive=view-distance", "contrastive.margin=0.1", "train.trackers=[]"]
    run = subprocess.run(
        [sys.executable, "-m", "hmgan", *command.split(), *(part for o in options for part in ("--set", o))],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "contr" in run.stderr


def test_every_command_of_the_readme_exists() -> None:
    named = set(re.findall(r"^hmgan (?:--registry \S+ )?([a-z]+)", "\n".join(blocks("")), re.MULTILINE))
    known = {command.name or command.callback.__name__ for command in app.app.registered_commands}
    assert named <= known
    assert {"import", "pack", "train", "evaluate", "sample"} <= named


def test_every_experiment_of_the_readme_is_in_the_registry() -> None:
    from hmgan.config import entries

    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", README.read_text(), re.MULTILINE)
    table = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert len(table) >= 20
    assert set(table) <= set(entries.entries("experiment"))


def options_of_neighbours() -> list[str]:
    """The commands that switch an augmentation, a regulariser or a head of D on."""
    (block,) = [each for each in blocks("") if "disc_head=" in each]
    return block.strip().splitlines()


@pytest.mark.parametrize("command", options_of_neighbours())
def test_what_neighbours_have_is_switched_on_as_the_readme_says_and_trains_a_step(
    command: str, shards: Path, source: Path, tmp_path: Path
) -> None:
    words = command.split()
    name, overrides = words[2], words[4::2]
    assert words == ["hmgan", "train", name, *(word for each in overrides for word in ("--set", each))]
    experiment = tiny.transfer(shards, source, *overrides, name=name)
    for override in overrides:
        path, _, value = override.partition("=")
        got = experiment.model_dump()
        for key in path.split("."):
            got = got[key]
        assert str(got["name"] if isinstance(got, dict) else got) == value
    trainer = tiny.make_trainer(experiment, tmp_path)
    stats = trainer.take_step(next(trainer.batches()))
    assert all(bool(torch.isfinite(value)) for value in stats.values())


def test_the_readme_switches_on_every_augmentation_regulariser_and_head_but_the_papers() -> None:
    from hmgan.config import entries

    shown = " ".join(options_of_neighbours())
    for field, kind in (("augment", "augment"), ("regularizer", "regularizer"), ("disc_head", "disc-head")):
        for name in {*entries.known(kind)} - {"logit-per-class"}:
            assert f"{field}={name} " in f"{shown} "
