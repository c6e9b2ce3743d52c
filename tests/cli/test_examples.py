"""The example in every verb's help: it is one of that verb, and it runs."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest
import tiny
import typer

from hmgan.cli.app import app
from hmgan.train import rundir
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training

# What takes minutes, needs a terminal, a hub or a file of others: read by the parser, and run with these words more.
LONG = {"align": "-n", "pretrain": "-n", "train": "-n"}
READ_ONLY = {"demo", "explore", "project", "push", "import", "evaluate", "doctor"}


def verbs(group=None, before=()):
    """{("data", "verify"): command, ...}"""
    found = {}
    for name, command in (group or typer.main.get_command(app)).commands.items():
        inner = getattr(command, "commands", None)
        found |= verbs(command, (*before, name)) if inner else {(*before, name): command}
    return found


def example(command):
    text = re.search(r"For example: (hmgan .*)", command.help or "")
    return text and shlex.split(text[1])


@pytest.fixture(scope="module")
def world(shards, source, tmp_path_factory):
    """What the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    tiny.write_images(folder / "photographs", size=32)
    shutil.copytree(shards, folder / "shards")
    experiment, run = tiny.transfer(shards, source, "train.kimg=0.004", "train.snap=0.004"), folder / "runs" / "00003"
    run.mkdir(parents=True)
    rundir.keep_config(run, experiment)
    run_training(prepare(experiment), run)
    assert tiny.command("centres", folder / "runs" / "00003", "--draws", "1") == 0
    return folder


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_every_verb_has_an_example_that_its_parser_takes(verb):
    command = verbs()[verb]
    words = example(command)
    assert words, f"hmgan {' '.join(verb)} has no example in its help"
    assert words[: len(verb) + 1] == ["hmgan", *verb]
    with command.make_context("hmgan", words[len(verb) + 1 :]):
        pass


@pytest.mark.parametrize("verb", [v for v in verbs() if v[0] not in READ_ONLY], ids=" ".join)
def test_the_example_runs(verb, world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path / "here")
    if verb[0] == "pack":
        shutil.rmtree(tmp_path / "here" / "shards")
    if verb[0] == "index":
        (tmp_path / "here" / "shards" / "index.json").unlink()
    monkeypatch.chdir(tmp_path / "here")
    words = example(verbs()[verb])[1:]
    assert tiny.command(*words, *LONG.get(verb[0], "").split()) == 0
