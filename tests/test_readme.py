"""The README's own examples run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from hmgan import cli

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
    known = {command.name or command.callback.__name__ for command in cli.app.registered_commands}
    assert named <= known
    assert {"import", "pack", "train", "evaluate", "sample"} <= named


def test_every_experiment_of_the_readme_is_in_the_registry() -> None:
    from hmgan import registry_index

    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", README.read_text(), re.MULTILINE)
    table = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert len(table) >= 20
    assert set(table) <= set(registry_index.entries("experiment"))
