"""`hmgan export`: a generator for a model hub, and a class of it as a source."""

from __future__ import annotations

import json
import re

import pytest
import tiny
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from trained import images

from hmgan.config.loading import portable, read_experiment, to_table
from hmgan.data.shards import ShardSet
from hmgan.discriminators.heads import LogitPerClass
from hmgan.generators.snapshot import load_generator, newest_snapshot
from hmgan.generators.source import load_source
from hmgan.train import checkpoint, rundir
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training

HEADS = ["logit-per-class", "projection", "auxiliary-classifier"]


def trained(shards, source, folder, *overrides):
    """A run directory of two steps, one snapshot each."""
    settings = ("train.kimg=0.008", "train.snap=0.004", "optimizer.lr=0.1", *overrides)
    experiment = tiny.transfer(shards, source, *settings)
    folder.mkdir()
    rundir.keep_config(folder, experiment)
    return run_training(prepare(experiment), folder)


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    """Two steps of hyper-mod-b, scored at both."""
    folder = tmp_path_factory.mktemp("export") / "run"
    return trained(shards, source, folder, "evaluation.per_class=4")


def export(*arguments):
    return tiny.command("export", *arguments)


def test_an_export_draws_the_runs_images_and_carries_its_recipe_and_scores(run, shards, source, tmp_path, capsys):
    assert export(run, tmp_path / "out", "--licence", "mit") == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "experiment.json", "model.safetensors",
    ]  # fmt: skip
    assert torch.equal(images(load_generator(out).generator), images(load_generator(run).generator))
    recipe, kept = (to_table(read_experiment(path)) for path in (out / "experiment.json", run / "config.json"))
    assert recipe == {**kept, "data": shards.name, "source": source.name}
    card = (out / "README.md").read_text()
    front = ModelCard(card).data.to_dict()
    assert (front["license"], front["library_name"]) == ("mit", "hmgan")
    assert f"| Source sha256 | {load_source(str(source)).digest} |" in card
    assert "| Classes | ant, bee, cat |" in card
    assert "| Training | 0.008 kimg |" in card
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["snapshot"] == newest_snapshot(run).name]
    assert len(last) == 12  # three metrics of three classes and their mean
    assert card.count("| 12 | 4 |") == 9
    assert all(f"| {line['class']} | {line['value']:.4g} |" in card for line in last)
    assert "hmgan sample out " in card


@pytest.mark.parametrize("options", [(), ("--class", "bee")], ids=["whole", "one class"])
def test_an_export_and_every_card_name_data_and_source_without_a_machine_path(options, run, shards, source, tmp_path):
    assert export(run, tmp_path / "out", *options) == 0
    written = [*(tmp_path / "out").glob("*.json"), tmp_path / "out" / "README.md", *run.rglob("README.md")]
    assert len(written) == 5
    for path in written:
        text = path.read_text()
        assert not re.search(r"[\s\"':|]/\w", text), path
        assert "file:" not in text
    for card in (tmp_path / "out" / "README.md", newest_snapshot(run) / "README.md"):
        assert f"| Data | {shards.name} |" in card.read_text()
        assert f"| Data sha256 | {ShardSet(shards).digest} |" in card.read_text()
        assert f"| Source | {source.name} |" in card.read_text()


@pytest.mark.parametrize(
    ("given", "portable_"),
    [
        ("/home/me/mine", "mine"),
        ("/home/me/mine/", "mine"),
        ("file:///home/me/mine", "mine"),
        ("inception:/home/me/inception.pt", "inception:inception.pt"),
        (["/a/b", "s3://bucket/c", "fashion"], ["b", "s3://bucket/c", "fashion"]),
        ({"sources": ["/a/b"], "weights": [1.0]}, {"sources": ["b"], "weights": [1.0]}),
        ({"name": "zero2", "config": "/home/me/zero.json"}, {"name": "zero2", "config": "zero.json"}),
        ("https://example.org/x", "https://example.org/x"),
        ("a/b", "a/b"),
    ],
)
def test_what_leaves_the_machine_has_the_last_names_of_its_paths(given, portable_):
    assert portable(given) == portable_


def test_scores_of_an_export_away_from_its_images_ask_for_them(run, shards, tmp_path, capsys, monkeypatch):
    assert export(run, tmp_path / "out") == 0
    monkeypatch.chdir(tmp_path)
    assert "was trained on shards, which is not here; give the images with --data" in refusal_of_scores(capsys, "out")
    (tmp_path / "out" / "experiment.json").unlink()
    assert "give the images with --data" in refusal_of_scores(capsys, "out")
    assert tiny.command("evaluate", "out", "--data", shards, "--per-class", 4, "--metrics", "fd") == 0


def refusal_of_scores(capsys, run):
    capsys.readouterr()
    assert tiny.command("evaluate", run) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_older_snapshot_is_exported_with_its_own_scores(run, tmp_path):
    older = run / "snapshots" / "000000.004"
    assert export(older, tmp_path / "out") == 0
    assert load_generator(tmp_path / "out").config["kimg"] == 0.004
    card = (tmp_path / "out" / "README.md").read_text()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(f"{line['value']:.4g}" in card for line in lines if line["snapshot"] == "000000.004")


def test_a_snapshot_away_from_its_run_is_exported_without_scores(run, tmp_path):
    assert export(run, tmp_path / "first") == 0
    (tmp_path / "first" / "experiment.json").unlink()
    assert export(tmp_path / "first", tmp_path / "second") == 0
    assert "Scores" not in (tmp_path / "second" / "README.md").read_text()
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("first", "second")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_class_becomes_a_source_that_draws_it_and_that_a_transfer_starts_from(run, shards, tmp_path):
    assert export(run, tmp_path / "bee", "--class", "bee") == 0
    plain, whole = load_generator(tmp_path / "bee"), load_generator(run)
    labels = torch.ones(4, dtype=torch.long)
    latents = whole.generator.latents(range(4), 0.9)
    with torch.no_grad():
        wanted = whole.generator(latents, labels, 0.7).image
        got = plain.generator(latents, labels, 0.7).image
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert plain.config["class"] == "bee"
    card = (tmp_path / "bee" / "README.md").read_text()
    assert "| Classes | bee, one of ant, bee, cat |" in card
    assert "| FD-squeezenet ↓ | bee |" in card
    assert "| FD-squeezenet ↓ | ant |" not in card
    assert "hmgan train hyper-mod-b --source bee" in card
    prepared = prepare(tiny.transfer(shards, tmp_path / "bee"))
    with torch.no_grad():  # a transfer starts from its source exactly
        start = prepared.networks.generator(latents, labels, 0.7).image
    torch.testing.assert_close(start, got, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_a_folded_discriminator_judges_as_the_runs_judged_the_class(head, shards, source, tmp_path):
    run = trained(shards, source, tmp_path / "run", f"disc_head={head}")
    assert export(run, tmp_path / "cat", "--class", "cat") == 0
    trainer = tiny.make_trainer(read_experiment(run / "config.json"), run)
    trainer.resume(checkpoint.newest(run / "checkpoints"))
    pictures = torch.randn(4, 3, 8, 8)
    plain = tiny.make_trainer(tiny.transfer(shards, tmp_path / "cat"), tmp_path).task.discriminator
    assert isinstance(plain.head, LogitPerClass)
    with torch.no_grad():
        wanted = trainer.task.discriminator(pictures, torch.full((4,), 2)).logit
        got = plain(pictures, torch.zeros(4, dtype=torch.long)).logit
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_a_class_of_a_snapshot_whose_checkpoint_is_gone_has_no_discriminator(run, tmp_path):
    assert export(run, tmp_path / "whole") == 0
    assert export(tmp_path / "whole", tmp_path / "ant", "--class", "ant") == 0
    assert load_source(str(tmp_path / "ant")).discriminator is None
    assert "hmgan train" not in (tmp_path / "ant" / "README.md").read_text()


def refusal(capsys, *arguments):
    assert export(*arguments) == 2
    return capsys.readouterr().err


def test_mistakes_are_one_line_and_write_nothing(run, source, tmp_path, capsys):
    out = tmp_path / "out"
    assert refusal(capsys, run, out, "--class", "be") == (
        "error: no class named 'be'; did you mean 'bee'? known: ant, bee, cat\n"
    )
    assert "has no modulation, whose classes could be folded" in refusal(capsys, source, out, "--class", "bee")
    assert "no generator at" in refusal(capsys, tmp_path / "nothing", out)
    assert "is a source of the registry" in refusal(capsys, "fashion-32", out)
    assert not out.exists()
    out.mkdir()
    assert refusal(capsys, run, out) == f"error: {out} exists already; give a new folder\n"
