"""The bench of one GPU runs to its end without one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

SCRIPT = Path(__file__).parents[1] / "scripts" / "bench_gpu.py"


def bench(*options):
    return subprocess.run([sys.executable, str(SCRIPT), "--tiny", *options], capture_output=True, text=True)


@pytest.mark.slow
def test_every_section_runs_to_its_end_on_a_cpu(tmp_path):
    done = bench("--all", "--budget", "3600", "--json", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert (found["left_out"], found["failed"]) == ([], {})
    sections = {"ceilings", "checks", "convolutions", "passes", "discriminator", "generator", "iterations", "profile"}
    assert {measure["section"] for measure in found["measures"]} - {"syncs"} == sections
    assert len(found["cases"]) == 14


def test_sections_that_no_time_is_left_for_are_named_and_not_begun(tmp_path):
    assert bench("--all", "--budget", "0", "--json", str(tmp_path / "gpu.json")).returncode == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["measures"] == []
    assert len(found["left_out"]) == 9


@pytest.mark.parametrize("options", [(), ("--section", "all-of-it"), ("--all", "--section", "checks")])
def test_what_to_run_is_said_in_one_way(options, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    command = typer.Typer()
    command.command()(importlib.import_module("bench_gpu").main)
    done = CliRunner().invoke(command, ["--tiny", *options])
    assert done.exit_code == 2
    assert "give --all, or one --section of ceilings" in " ".join(done.output.replace("│", " ").split())
