"""The example in every verb's help: it is one of that verb, and it runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import threading
from pathlib import Path
from urllib.request import urlopen

import pytest
import tiny
import torch
import typer
from reference_stylegan1 import port_checkpoint

from hmgan.cli.app import app
from hmgan.train import rundir
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training

STEP = tiny.options(train__kimg=0.004, train__batch=4, train__trackers="[]")  # a single one
TRAINED = ["--kimg", 0.004, "--metrics", 0, *STEP[2:]]
# What keeps an example short: words behind it.
MORE = {
    "align": ["--kimg", 0.004, *STEP[2:]],
    "classes": TRAINED,
    "demo": [*STEP, *tiny.options(source="source", data="shards", evaluation__per_class=4)],
    "evaluate": ["--per-class", 4, "--no-references"],
    "pretrain": TRAINED,
    "train": TRAINED,
    "explore": ["--port", 0],
    "project": ["--steps", 1],
}


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
    shutil.copytree(source, folder / "source")
    shutil.copytree(folder / "photographs" / "bee", folder / "wasp")
    shutil.copy(next(folder.glob("photographs/*/*.png")), folder / "photograph.png")
    torch.save(port_checkpoint((4, 4)), folder / "ffhq.pkl")
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


@pytest.mark.parametrize("verb", verbs(), ids=" ".join)
def test_the_example_runs(verb, world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    if verb[0] == "pack":
        shutil.rmtree("shards")
    if verb[0] == "index":
        Path("shards/index.json").unlink()
    if verb[0] == "push":
        assert tiny.command("export", "runs/00003", "bags") == 0
    monkeypatch.setattr("webbrowser.open", lambda url: threading.Thread(target=visit, args=(url,)).start())
    words = example(verbs()[verb])[1:]
    code = 128 + signal.SIGTERM if verb[0] == "explore" else 0
    assert tiny.command(*words, *MORE.get(verb[0], [])) == code


def visit(url):
    """Reads the page as a browser does, and ends its server."""
    try:
        with urlopen(f"{url}model", timeout=60) as answer:
            assert len(json.load(answer)["models"]) == 2
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
