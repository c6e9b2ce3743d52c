"""A transfer without classes: the source itself trains, labels are unused, and what is kept is a source again."""

from __future__ import annotations

import json

import pytest
import tiny
import torch

from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.generators.source import load_source
from hmgan.train.prepare import prepare


def one_step(trainer):
    """Trains a step; the names of the tensors that moved."""
    networks = torch.nn.ModuleDict({"G": trainer.task.generator.trained, "D": trainer.task.discriminator})
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    trainer.take_step(next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))))
    return {name for name, value in networks.state_dict().items() if not torch.equal(before[name], value)}


def parameters(trainer):
    return {f"G.{n}" for n, _ in trainer.task.generator.trained.named_parameters()}, {
        f"D.{n}" for n, _ in trainer.task.discriminator.named_parameters()
    }


def finetuning(shards, source, *overrides, name="transfergan"):
    # Without mixing and with a mapping rate that shows in float32.
    return tiny.transfer(shards, source, "optimizer.mapping_mult=1.0", *overrides, name=name)


def test_transfergan_starts_from_the_source_and_trains_all_of_both_networks(shards, source, tmp_path):
    trainer = tiny.make_trainer(finetuning(shards, source), tmp_path)
    loaded = load_source(str(source))
    for network, state in (
        (trainer.task.generator.trained, loaded.backbone.state_dict()),
        (trainer.task.discriminator, loaded.discriminator[1]),
    ):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    in_g, in_d = parameters(trainer)
    assert one_step(trainer) == in_g | in_d


def test_freezed_trains_all_of_g_and_the_end_of_d(shards, source, tmp_path):
    trainer = tiny.make_trainer(finetuning(shards, source, name="freezed"), tmp_path)
    in_g, in_d = parameters(trainer)
    kept = {each for each in in_d if each.startswith(("D.from_rgb.", "D.blocks.0."))}
    assert kept
    assert one_step(trainer) == in_g | in_d - kept


def test_the_mapping_network_learns_at_its_own_rate(shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, name="transfergan"), tmp_path)
    rates = {id(p): group["lr"] for group in trainer.task.gen_optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.task.generator.trained.named_parameters():
        assert rates[id(parameter)] == pytest.approx(2e-5 if name.startswith("mapping.") else 2e-3)


def test_labels_are_not_used(shards, source):
    prepared = prepare(finetuning(shards, source, "evaluation.per_class=2"))
    assert prepared.classes == prepared.data.classes == prepared.reals.classes == ("all",)
    assert prepared.data.labels.tolist() == [0] * 36
    assert prepared.reals.counts == (36,)
    assert len(prepared.networks.discriminator.head.bias) == 1


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    """A fine-tuning of two steps, scored."""
    outdir = tmp_path_factory.mktemp("runs")
    settings = tiny.options(train__trackers="[]", train__batch=4, evaluation__per_class=4)
    where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.008]
    assert tiny.command("train", "transfergan", *where, *settings) == 0
    (folder,) = outdir.iterdir()
    return folder


def test_its_snapshot_is_a_source_to_sample_score_and_transfer_from(run, source, shards, tmp_path, capsys):
    loaded = load_generator(run)
    assert loaded.classes == ("all",)
    assert loaded.config["source_sha256"] == load_source(str(source)).digest
    (snapshot,) = (run / "snapshots").iterdir()
    assert load_source(str(snapshot)).discriminator is not None
    assert tiny.command("sample", "--network", run, "--outdir", tmp_path / "drawn", "--seeds", "0-1") == 0
    assert tiny.command("evaluate", run, "--data", shards, "--per-class", 4) == 0
    assert prepare(tiny.transfer(shards, snapshot)).classes == tiny.CLASSES


def test_its_scores_are_against_all_classes_together(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {(line["class"], line["n_real"], line["n_fake"]) for line in lines} == {("all", 36, 4), ("mean", 36, 4)}


def test_the_demo_reports_it_without_pictures_across_classes(shards, source, tmp_path):
    settings = tiny.options(
        source=source, data=shards, train__kimg=0.004, train__batch=4, train__trackers=[], evaluation__per_class=4
    )
    assert tiny.command("demo", "--experiment", "transfergan", "--outdir", tmp_path / "demo", *settings) == 0
    (folder,) = (tmp_path / "demo").iterdir()
    report = (folder / "REPORT.md").read_text()
    assert "FD-squeezenet" in report
    assert "hmgan interpolate" not in report
    assert not (folder / "interpolation.png").exists()


def test_a_dry_run_tells_what_trains(shards, source, capsys):
    where = ["--data", shards, "--source", source, "--batch", 4]
    assert tiny.command("train", "freezed", *where, "--dry-run", *tiny.options(train__trackers="[]")) == 0
    out = capsys.readouterr().out
    assert "classes: all" in out
    assert "first batch: all x 4" in out


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (
            ("class_net=mlp",),
            "modulation is missing: class_net needs one; leave both out to fine-tune the whole source",
        ),
        (
            ("modulation=adafm",),
            "class_net is missing: modulation needs one; leave both out to fine-tune the whole source",
        ),
        (
            ("aligned=somewhere",),
            "aligned starts a modulation, and there is none to start; leave it out to fine-tune the source",
        ),
        (
            ("task.freeze=['blocks.3']",),
            "task.freeze names 'blocks.3'; did you mean 'blocks.0'? D has: blocks.0",
        ),
        (
            ("task.freeze=['block.3']",),
            "task.freeze names 'block.3'; did you mean 'blocks'? D has: from_rgb, blocks, conv1, conv2, head",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(overrides, text, shards, source):
    with pytest.raises(UserError) as caught:
        prepare(finetuning(shards, source, *overrides))
    assert str(caught.value) == text
