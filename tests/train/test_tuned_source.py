"""Parts of the source that train with the heads: Hyper-Mod-FT and what the released code does under that name."""

from __future__ import annotations

import re

import pytest
import tiny
import torch

from hmgan import components
from hmgan.config.loading import load_experiment
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.generators.build import build
from hmgan.generators.snapshot import load_generator
from hmgan.generators.source import source_of
from hmgan.generators.transfer import TransferGenerator
from hmgan.train import checkpoint
from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare
from hmgan.train.tasks.alignment import aligning

RELEASED = ("const", "noise1", "noise2", "norm1", "norm2", "to_rgb")


def moved_by_a_step(experiment, folder):
    """Names of the source's parameters that a step changes; the trainer."""
    trainer = tiny.make_trainer(experiment, folder)
    before = {name: p.detach().clone() for name, p in trainer.task.generator.source.named_parameters()}
    trainer.take_step(next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))))
    after = trainer.task.generator.source.named_parameters()
    return {name for name, p in after if not torch.equal(p, before[name])}, trainer


def test_the_whole_source_trains_in_hyper_mod_ft(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, name="hyper-mod-ft")
    moved, trainer = moved_by_a_step(experiment, tmp_path)
    # A shift of every channel that an AdaIN takes away again has no gradient: biases before one need not move.
    still = {name for name, _ in trainer.task.generator.source.named_parameters()} - moved
    assert all(name.endswith(("conv1.bias", "conv2.bias")) for name in still)
    assert any("conv1.weight" in name for name in moved)
    assert any(name.startswith("mapping.") for name in moved)


def test_the_released_fine_tuning_leaves_convolutions_and_mapping(shards, source, tmp_path):
    moved, _ = moved_by_a_step(tiny.transfer(shards, source, name="hyper-mod-ft-released"), tmp_path)
    assert moved
    assert all(any(part in name for part in RELEASED) for name in moved)


def test_the_mapping_network_learns_at_its_own_rate(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, "optimizer.mapping_mult=0.25", name="hyper-mod-ft")
    trainer = tiny.make_trainer(experiment, tmp_path)
    rates = {id(p): group["lr"] for group in trainer.task.gen_optimizer.param_groups for p in group["params"]}
    for name, parameter in trainer.task.generator.source.named_parameters():
        assert rates[id(parameter)] == experiment.optimizer.lr * (0.25 if name.startswith("mapping.") else 1)


def test_a_tuned_source_starts_at_the_source(shards, source):
    experiment = tiny.transfer(shards, source, name="hyper-mod-ft")
    generator = prepare(experiment).networks.generator
    latents, labels = generator.latents(range(3)), torch.tensor([0, 1, 2])
    with torch.no_grad():
        torch.testing.assert_close(
            generator(latents, labels).image, generator.source(latents).image, rtol=1e-5, atol=1e-5
        )


def test_the_average_and_the_snapshot_hold_the_tuned_source(shards, source, tmp_path):
    steps = tiny.options(train__batch=4, train__kimg=0.012, train__trackers="[]", optimizer__lr=0.05)
    where = ["--data", shards, "--source", source, "--outdir", tmp_path]
    assert tiny.command("train", "hyper-mod-ft", *where, *steps) == 0
    (run,) = tmp_path.iterdir()
    loaded = load_generator(run).generator
    experiment = tiny.transfer(shards, source, "train.kimg=0.012", "optimizer.lr=0.05", name="hyper-mod-ft")
    trainer = tiny.make_trainer(experiment, tmp_path / "again")
    with RunLog(None, 1.0) as log:
        trainer.save = lambda: None
        trainer.train(log)
    averaged = trainer.task.averaged()
    assert isinstance(loaded, TransferGenerator)
    weights = dict(averaged.source.named_parameters())
    for name, value in loaded.source.named_parameters():
        assert torch.equal(value, weights[name])
    tuned = trainer.task.generator.source.state_dict()
    assert not torch.equal(tuned["blocks.0.conv2.weight"], weights["blocks.0.conv2.weight"])
    with torch.no_grad():
        latents, labels = loaded.latents(range(3)), torch.tensor([2, 0, 1])
        torch.testing.assert_close(loaded(latents, labels).image, averaged(latents, labels).image, rtol=1e-4, atol=1e-4)


def make_unedited(shards, source, folder):
    """A trainer of heads and of what no class edits, after two steps."""
    experiment = tiny.transfer(shards, source, "train.unedited=true", "optimizer.lr=0.05")
    trainer = tiny.make_trainer(experiment, folder)
    batch = next(trainer.batches())
    for trainer.step in (1, 2):
        trainer.take_step(batch)
    return trainer


def test_what_of_the_source_stays_is_in_memory_once_and_in_no_checkpoint(shards, source, tmp_path):
    task = make_unedited(shards, source, tmp_path).task
    own, averaged = (dict(m.named_parameters()) for m in (task.generator.trained, task.ema.ema_model))
    trained = {name for name, parameter in own.items() if parameter.requires_grad}
    assert own.keys() == averaged.keys()
    assert {name for name in own if own[name].data_ptr() == averaged[name].data_ptr()} == own.keys() - trained
    assert any(name.startswith("source.") for name in trained)
    assert task.kept()["generator"].state_dict().keys() == trained
    assert task.kept()["ema"].state_dict().keys() == {f"ema_model.{name}" for name in trained} | {"initted", "step"}
    moved = [name for name in trained if not torch.equal(own[name], averaged[name])]
    assert any(name.startswith("source.") for name in moved)


@pytest.mark.parametrize("older", [False, True], ids=["what trains", "the whole source, as older versions kept it"])
def test_a_checkpoint_gives_every_parameter_back(older, shards, source, tmp_path):
    task = make_unedited(shards, source, tmp_path).task
    whole = {"generator": task.generator.trained, "ema": task.ema}
    checkpoint.write(tmp_path / "1", checkpoint.copy_of({**task.kept(), **(whole if older else {})}), {"step": 2})
    again = tiny.make_trainer(task.experiment, tmp_path)
    again.resume(tmp_path / "1")
    for network, other in zip(whole.values(), (again.task.generator.trained, again.task.ema), strict=True):
        assert all(torch.equal(x, other.state_dict()[name]) for name, x in network.state_dict().items())


def test_a_checkpoint_that_lacks_something_that_trains_is_refused(shards, source, tmp_path):
    task = make_unedited(shards, source, tmp_path).task
    copy = checkpoint.copy_of(task.kept())
    del copy.tensors["generator/source.blocks.0.const"]
    checkpoint.write(tmp_path / "1", copy, {"step": 2})
    with pytest.raises(UserError, match="generator does not fit this experiment"):
        checkpoint.load(tmp_path / "1", task.kept())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ('train.source=["blocks.*.convx.*"]',),
            r"^train\.source 'blocks\.\*\.convx\.\*' matches nothing in the source; its parts: blocks, ",
        ),
        (
            ('train.source=["*"]',),
            r"^convolutions train, which modulation 'adafm' normalises once; add --set modulation\.live",
        ),
    ],
)
def test_parts_that_cannot_train_are_refused(overrides, message, shards, source):
    with pytest.raises(UserError, match=message):
        prepare(tiny.transfer(shards, source, *overrides))


def test_alignment_leaves_the_source_where_it_is(shards, source, tmp_path):
    experiment = tiny.transfer(shards, source, "modulation.init=align", "train.kimg=0.004", name="hyper-mod-ft")
    assert "source" not in tiny.make_trainer(aligning(experiment), tmp_path).task.generator.trained


@pytest.mark.parametrize(
    ("name", "overrides", "numbers"),
    [("hyper-mod-b", (), 2003), ("adain", (), 2003), ("hyper-mod-c", ("train.unedited=false",), 0)],
)
def test_what_no_class_edits_trains_in_the_presets_and_not_in_the_papers_row(name, overrides, numbers):
    experiment = load_experiment(name, overrides)
    source = build(experiment, source_of(experiment), 4).generator.source
    trained = {name: p.numel() for name, p in source.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == numbers
    assert all(re.search(r"\.const$|\.noise[12]\.|^to_rgb\.", name) for name in trained)


@pytest.mark.parametrize(
    ("name", "overrides", "numbers"),
    [("hmgan-best", (), 211_987), ("demo", (), 211_987), ("demo", ("train.unedited=false",), 211_987 - 2003)],
)
def test_hmgan_best_and_the_demo_train_all_that_no_class_edits_and_the_convolutions(name, overrides, numbers):
    experiment = load_experiment(name, overrides)
    source = build(experiment, source_of(experiment), 4).generator.source
    trained = {name: p.numel() for name, p in source.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == numbers
    assert not any(re.search(r"^mapping\.|\.norm[12]\.", name) for name in trained)
    assert any(re.search(r"\.const$|\.noise[12]\.|^to_rgb\.", name) for name in trained) is not bool(overrides)


@pytest.mark.parametrize("backbone", tiny.BACKBONES)
def test_what_no_class_edits_is_no_site_in_any_backbone(backbone):
    network = components.build("backbone", backbone, **tiny.BACKBONES[backbone])
    edited = [tensor for site in network.sites().values() for tensor in (site.weight, site.bias)]
    parameters = dict(network.named_parameters())
    assert not any(parameters[name] is tensor for name in network.unedited() for tensor in edited)


def test_of_stylegan2_only_noise_strengths_are_in_no_class_edits_and_of_stylegan3_nothing():
    networks = [components.build("backbone", name, **tiny.BACKBONES[name]) for name in ("stylegan2", "stylegan3")]
    layers = ("b4.conv1", "b8.conv0", "b8.conv1")
    assert networks[0].unedited() == [f"synthesis.{layer}.noise_strength" for layer in layers]
    assert networks[1].unedited() == []
