"""The public names come lazily, and docs/python.md says what is true."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tiny
import torch

import hmgan
from hmgan import components
from hmgan.config import entries
from hmgan.config.loading import load_experiment
from hmgan.models.model import Model, load

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_public_names_are_what_they_are_inside() -> None:
    assert hmgan.load is load
    assert hmgan.Model is Model
    assert hmgan.register is components.register
    assert sorted(dir(hmgan)) == sorted(hmgan.__all__) == ["Model", "__version__", "load", "register"]
    with pytest.raises(AttributeError, match=r"^module 'hmgan' has no attribute 'lod'$"):
        _ = hmgan.lod


def test_importing_hmgan_imports_nothing_else() -> None:
    program = (
        "import sys, hmgan; print(*sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'pydantic', 'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_the_command_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert tiny.command("--version") == 0
    assert capsys.readouterr().out == f"hmgan {hmgan.__version__}\n"


def test_the_page_loads_a_model_draws_mixes_walks_and_differentiates(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in blocks("python")[:3]:
        exec(block, names)
    assert capsys.readouterr().out == f"{hmgan.__version__} ('all',) 32\n"


def test_the_component_of_the_page_trains_a_step_and_is_shown(
    shards: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(components, "_REGISTRY", dict(components._REGISTRY))
    exec(blocks("python")[-1], {"__name__": "my_losses"})
    experiment = tiny.transfer(shards, source, "adversarial=soft-hinge", "adversarial.margin=0.5")
    trainer = tiny.make_trainer(experiment, tmp_path)
    stats = trainer.take_step(next(trainer.batches()))
    assert all(bool(torch.isfinite(value)) for value in stats.values())
    assert tiny.command("show", "soft-hinge") == 0
    assert "margin = 1.0                # logit beyond which D gains nothing" in capsys.readouterr().out
    components.schema.cache_clear()


def test_the_entry_of_the_page_is_an_experiment(tmp_path: Path) -> None:
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "gentle.toml").write_text(blocks("toml")[0])
    entries.add(tmp_path)
    assert load_experiment("gentle").optimizer.lr == tomllib.loads(blocks("toml")[0])["optimizer"]["lr"]


def test_a_run_directory_holds_the_files_of_the_page(shards: Path, source: Path, tmp_path: Path) -> None:
    words = ["--source", source, "--data", shards, "--outdir", tmp_path, "--kimg", 0.004, "--snap", 0.004, "--batch", 4]
    assert tiny.command("train", "hyper-mod-b", *words, "--metrics", 2, "--set", "train.trackers=[]") == 0
    (run,) = tmp_path.iterdir()
    run_files, snapshot_files = PAGE.read_text().split("## Files")[1].split("| in a snapshot")
    for pattern in re.findall(r"`([a-z_<>./]+)`", run_files.replace("`kimg`", "")):
        assert list(run.glob(re.sub("<kimg>", "*", pattern))), pattern
    (snapshot,) = (run / "snapshots").iterdir()
    for name in ("model.safetensors", "config.json", "README.md"):
        assert f"`{name}`" in snapshot_files
        assert (snapshot / name).is_file()
    assert hmgan.load(run).classes == tiny.CLASSES
