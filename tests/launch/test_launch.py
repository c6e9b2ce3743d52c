"""`hmgan launch`: what it prints, what it refuses, and that what it prints is what it runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

from hmgan.launch.targets import TARGETS
from hmgan.train.engines import zero


@pytest.fixture(autouse=True)
def _own_python_first(monkeypatch):
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name in ("NODE_RANK", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)


def dry_run(capsys, *words):
    capsys.readouterr()
    assert tiny.command("launch", "--dry-run", *words) == 0
    return capsys.readouterr().out


def refused(capsys, *words):
    capsys.readouterr()
    assert tiny.command("launch", *words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--target", "slrum", "hyper-mod-b"], "no target named 'slrum'; did you mean 'slurm'? known: "),
        (["hyper-mod-bb"], "no experiment named 'hyper-mod-bb'; did you mean 'hyper-mod-b'? known: "),
        (["hyper-mod-b", "--set", "train.kimgs=1"], "unknown key 'train.kimgs'; did you mean 'kimg'? known: "),
        (["hyper-mod-b", "--kimgs", "1"], "No such option: --kimgs"),
        (["pretrain-fashion-32", "--source", "fashion-32"], "No such option: --source"),
        (["hyper-mod-b", "--target", "slurm"], "--target after EXPERIMENT would be the training's own; put it before"),
        (["hyper-mod-b", "-n"], "-n after EXPERIMENT would be the training's own; put it before EXPERIMENT"),
        (["--gpus", "3", "hyper-mod-b", "--batch", "8"], "train.batch 8 does not divide over 3 ranks; change --batch"),
        (["--nodes", "0", "hyper-mod-b"], "--nodes is a number of machines from 1, or MIN:MAX, got '0'"),
        (["--nodes", "4:1", "hyper-mod-b"], "--nodes is a number of machines from 1, or MIN:MAX, got '4:1'"),
        (["--nodes", "1:4x", "hyper-mod-b"], "--nodes is a number of machines from 1, or MIN:MAX, got '1:4x'"),
        *(
            (
                ["--target", target, "--nodes", "1:4", "hyper-mod-b"],
                f"--target {target} takes one number of machines, got --nodes 1:4; take --target torchrun, or give one",
            )
            for target in ("local", "slurm", "k8s", "deepspeed")
        ),
        (
            ["--target", "torchrun", "--nodes", "1:3", "--gpus", "1", "hyper-mod-b", "--batch", "8"],
            "train.batch 8 does not divide over 3 ranks; change --batch",
        ),
        (
            ["--target", "torchrun", "--nodes", "1:4", "hyper-mod-b", "--batch", "8"],
            "MASTER_ADDR not set: with --nodes 1:4 run this on each machine, with MASTER_ADDR (the first one); or",
        ),
        (
            ["--target", "torchrun", "--nodes", "2", "hyper-mod-b", "--batch", "8"],
            "NODE_RANK and MASTER_ADDR not set: with --nodes 2 run this on each machine, with NODE_RANK (0 to 1) and",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_started(words, text, capsys, monkeypatch):
    monkeypatch.setattr(os, "execvpe", lambda *command: pytest.fail(f"started {command}"))
    assert refused(capsys, *words).lower().startswith(text.lower())


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("slurm", "sbatch is not there; run this where SLURM jobs are submitted, or print it with --dry-run"),
        ("k8s", "kubectl is not there; install it, or hand on what --dry-run prints"),
        ("deepspeed", "deepspeed is not installed; pip install 'hmgan[deepspeed]', or take --target torchrun"),
    ],
)
def test_a_program_that_is_not_there_is_one_line(target, text, capsys, monkeypatch):
    monkeypatch.setitem(TARGETS, target, TARGETS[target]._replace(there=lambda: None))
    assert refused(capsys, "--target", target, "hyper-mod-b") == text


@pytest.mark.parametrize("target", ["local", "torchrun", "slurm"])
@pytest.mark.parametrize("engine", ["zero1", "zero2"])
def test_an_engine_without_its_package_is_told_before_anything_is_started(target, engine, capsys, monkeypatch):
    monkeypatch.setattr(zero, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "execvpe", lambda *command: pytest.fail(f"started {command}"))
    words = ("--target", target, "hyper-mod-b", "--set", f"compute.engine={engine}")
    assert refused(capsys, *words) == "engines zero1 and zero2 need DeepSpeed: pip install 'hmgan[deepspeed]'"
    assert f"compute.engine={engine}" in dry_run(capsys, *words)


def test_the_engine_of_a_run_that_is_resumed_needs_its_package_too(shards, source, tmp_path, capsys, monkeypatch):
    words = ["--data", shards, "--source", source, "--outdir", tmp_path, "--kimg", 0.004, "--batch", 4, "--metrics", 0]
    assert (
        tiny.command("train", "hyper-mod-b", *words, *tiny.options(train__trackers="[]", compute__engine="zero2")) == 0
    )
    (run,) = tmp_path.iterdir()
    capsys.readouterr()
    monkeypatch.setattr(zero, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "execvpe", lambda *command: pytest.fail(f"started {command}"))
    got = refused(capsys, "hyper-mod-b", "--resume", run)
    assert got == "engines zero1 and zero2 need DeepSpeed: pip install 'hmgan[deepspeed]'"


@pytest.mark.parametrize(("target", "engine"), [("local", "fsdp2"), ("local", "replicated"), ("k8s", "zero2")])
def test_only_what_runs_here_with_deepspeed_needs_it(target, engine, capsys, monkeypatch):
    monkeypatch.setattr(zero, "find_spec", lambda name: None)
    monkeypatch.setitem(TARGETS, target, TARGETS[target]._replace(there=lambda: None, without="got as far as this"))
    words = ("--target", target, "hyper-mod-b", "--set", f"compute.engine={engine}")
    assert refused(capsys, *words) == "got as far as this"


def test_what_is_printed_for_a_shell_keeps_every_word(capsys):
    hard = ["--data", "a b;$(touch oops)'\"", "--set", "modulation=adain"]
    (line,) = dry_run(capsys, "--target", "torchrun", "--gpus", "4", "hyper-mod-b", *hard).splitlines()
    *size, bash, script = shlex.split(line)[:4]
    assert (size, bash, Path(script).name) == (["NODES=1", "GPUS=4"], "bash", "torchrun.sh")
    assert shlex.split(line)[4:] == ["train", "hyper-mod-b", *hard]


def test_several_machines_are_told_what_each_of_them_must_set(capsys):
    first, line = dry_run(capsys, "--target", "local", "--nodes", 2, "--gpus", 4, "hyper-mod-b").splitlines()
    assert first == "# on each of 2 machines, with NODE_RANK (0 to 1) and MASTER_ADDR (the first one) set"
    assert shlex.split(line)[:2] == ["NODES=2", "GPUS=4"]


def test_machines_that_come_and_go_are_not_numbered_and_resume_by_themselves(capsys):
    words = ("--target", "torchrun", "--nodes", "1:4", "--gpus", 2, "hyper-mod-b")
    first, line = dry_run(capsys, *words).splitlines()
    assert first == "# on each of 1 to 4 machines, with MASTER_ADDR (the first one) set"
    assert shlex.split(line)[:2] == ["NODES=1:4", "GPUS=2"]
    assert shlex.split(line)[-2:] == ["--resume", "auto"]
    assert dry_run(capsys, *words, "--resume", "runs/00000-x").endswith(" hyper-mod-b --resume runs/00000-x\n")
    assert (
        dry_run(capsys, "--target", "torchrun", "--nodes", "2:2", "hyper-mod-b").splitlines()[1].startswith("NODES=2 ")
    )


@pytest.mark.parametrize("target", TARGETS)
def test_a_scheduler_that_starts_the_command_again_resumes_the_run(target, capsys):
    assert ("auto" in dry_run(capsys, "--target", target, "hyper-mod-b")) == (target in ("slurm", "k8s"))
    assert "auto" not in dry_run(capsys, "--target", target, "hyper-mod-b", "--resume", "runs/00000-x")


def test_the_verb_is_the_experiments_own_and_registries_go_along(capsys, tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "mine.toml").write_text('summary = "Mine"\nextends = "pretrain-fashion-32"\n')
    capsys.readouterr()
    assert tiny.command("--registry", tmp_path, "launch", "--dry-run", "--target", "slurm", "mine") == 0
    words = shlex.split(capsys.readouterr().out)
    assert words[words.index("--registry") :] == ["--registry", str(tmp_path), "pretrain", "mine", "--resume", "auto"]


def stub(folder, name, text):
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("target", "code"), [("slurm", 0), ("k8s", 7)])
def test_what_is_printed_is_what_is_submitted(target, code, tmp_path, capsys, monkeypatch):
    """sbatch and kubectl write down what they are given."""
    stub(tmp_path, "sbatch", f'printf "%s\\n" "$@" >{tmp_path}/words')
    stub(tmp_path, "kubectl", f'printf "%s\\n" "$@" >{tmp_path}/words; cat >{tmp_path}/manifest; exit 7')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    # Replaces this process: here, a child's will do.
    monkeypatch.setattr(os, "execvpe", lambda file, words, environment: subprocess.run(words, env=environment))
    words = ["--target", target, "--nodes", 2, "--gpus", 8, "hyper-mod-b", "--data", "a b"]
    expected = dry_run(capsys, *words)
    assert tiny.command("launch", *words) == code
    assert capsys.readouterr().out == expected
    first, *manifest = expected.splitlines(keepends=True)
    assert (tmp_path / "words").read_text().splitlines() == shlex.split(first.removesuffix(" <<'EOF'\n"))[1:]
    assert not manifest or (tmp_path / "manifest").read_text() == "".join(manifest[:-1])
