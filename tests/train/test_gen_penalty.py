"""Fine-tuning that is held to its source, and fine-tuning behind a miner."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny
import torch
from test_finetuning import one_step, parameters

from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.generators.source import load_source
from hmgan.train.log import RunLog
from hmgan.train.prepare import prepare

HELD = {
    "ewc": ("gen_penalty.samples=8", "gen_penalty.weight=10.0"),
    "cdc-similarity": (),
}


def held(name, shards, source, *overrides):
    return tiny.transfer(shards, source, "optimizer.mapping_mult=1.0", *HELD[name], *overrides, name=name)


@pytest.mark.parametrize("name", HELD)
def test_a_held_step_trains_all_of_both_networks_and_leaves_the_source_alone(name, shards, source, tmp_path):
    trainer = tiny.make_trainer(held(name, shards, source), tmp_path)
    in_g, in_d = parameters(trainer)
    assert one_step(trainer) == in_g | in_d
    with RunLog(None, 1.0) as log:  # EWC is zero, and so its gradient, until G has moved
        trainer.settings = trainer.settings.model_copy(update={"kimg": 0.012})
        trainer.step = 1
        trainer.train(log)
    parts = trainer.task.gen_penalty.__dict__
    origin = parts["_source"] if "_source" in parts else parts["_transferred"].source
    loaded = load_source(str(source)).backbone.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in origin.state_dict().items())


@pytest.mark.parametrize("name", HELD)
def test_the_penalty_adds_its_weight_times_itself_to_gs_loss(name, shards, source, tmp_path):
    trainer = tiny.make_trainer(held(name, shards, source, "gen_penalty.weight=0.25"), tmp_path)
    with torch.no_grad():
        for parameter in trainer.task.generator.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    batch = next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0)))
    parts = trainer.microbatches(batch)
    *_, phase = trainer.task.phases(0, parts)
    loss, stats = phase.loss(parts[0], trainer.runtime.gather)
    assert stats["loss/gen-penalty"].item() > 0
    torch.testing.assert_close(loss, stats["loss/G"] + 0.25 * stats["loss/gen-penalty"])


def test_a_weight_of_zero_leaves_the_penalty_out(shards, source, tmp_path):
    trainer = tiny.make_trainer(held("ewc", shards, source, "gen_penalty.weight=0.0"), tmp_path)
    plain = tiny.make_trainer(tiny.transfer(shards, source, "optimizer.mapping_mult=1.0", name="transfergan"), tmp_path)
    assert one_step(trainer) == one_step(plain)
    for key, value in trainer.task.generator.state_dict().items():
        assert torch.equal(value, plain.task.generator.state_dict()[key])


def mining(shards, source, *overrides):
    given = ("players.kimg=0.004", "optimizer.mapping_mult=1.0", *overrides)
    return tiny.transfer(shards, source, *given, name="minegan")


def test_minegan_trains_the_miner_and_d_first_and_then_everything(shards, source, tmp_path):
    trainer = tiny.make_trainer(mining(shards, source), tmp_path)
    in_g, in_d = parameters(trainer)
    miner = {name for name in in_g if name.startswith("G.miner.")}
    assert len(miner) == 4
    loaded = load_source(str(source)).backbone.state_dict()
    state = trainer.task.generator.trained.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())
    assert one_step(trainer) == miner | in_d
    trainer.step = 1  # 4 images of the 4 are seen
    assert one_step(trainer) == in_g | in_d


def test_the_miner_stands_in_front_of_both_styles_and_of_the_mean_style(shards, source, tmp_path):
    backbone = tiny.make_trainer(mining(shards, source), tmp_path).task.generator.trained
    latents = backbone.latents(range(6), 1.0)
    mined = latents._replace(z=backbone.miner(latents.z), z_mix=backbone.miner(latents.z_mix))
    plain = load_source(str(source)).backbone
    assert torch.equal(backbone(latents).image, plain(mined).image)
    assert not torch.equal(backbone(latents).image, plain(latents).image)
    assert not torch.allclose(backbone.mean_style(), plain.mean_style())


def test_a_snapshot_of_minegan_keeps_the_average_of_its_miner_and_is_a_source(shards, source, tmp_path):
    settings = tiny.options(train__trackers="[]", train__batch=4, players__kimg=0.004)
    where = ["--data", shards, "--source", source, "--outdir", tmp_path, "--kimg", 0.008]
    assert tiny.command("train", "minegan", *where, *settings) == 0
    (folder,) = tmp_path.iterdir()
    loaded = load_generator(folder)
    assert loaded.config["backbone"]["mined"]
    prepared = prepare(mining(shards, *(folder / "snapshots").iterdir()))  # and mines on from there
    assert torch.equal(prepared.networks.generator.trained.miner[0].weight, loaded.generator.trained.miner[0].weight)


@pytest.mark.parametrize(
    ("name", "overrides", "text"),
    [
        ("cdc-similarity", ("train.batch=2",), "cdc needs 3 samples or more, got 2; raise train.batch"),
        ("ewc", ("gen_penalty.samples=9",), "ewc needs samples in whole groups, got 9 samples and group 8; change one"),
        (
            "ewc",
            ("discriminator.name=stylegan1", "discriminator.resolution=8", "discriminator.channels=[8,8]"),
            "gen_penalty 'ewc' looks at the source through its own discriminator; leave discriminator out, or "
            "gen_penalty",
        ),
        (
            "hyper-mod-b",
            ("gen_penalty=cdc",),
            "gen_penalty 'cdc' is for fine-tuning, which is a transfer without class_net and modulation; "
            "leave modulation out, or gen_penalty",
        ),
        (
            "hyper-mod-b",
            ("players=mining", "players.kimg=1.0"),
            "players 'mining' is for fine-tuning, which is a transfer without class_net and modulation; "
            "leave modulation out, or players",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(name, overrides, text, shards, source, tmp_path):
    source = shutil.copytree(source, tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["discriminator"]["stddev_group"] = 2  # so that D has nothing against a batch of two
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *overrides, name=name))
    assert str(caught.value) == text
