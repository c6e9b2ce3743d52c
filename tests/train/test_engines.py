"""Which engines there are for what, and what is said where one does not fit."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import pytest
import tiny

from hmgan.errors import UserError
from hmgan.files import launch_file
from hmgan.train import dryrun
from hmgan.train.distributed.runtime import Runtime
from hmgan.train.engines import choose, zero
from hmgan.train.engines.fsdp2 import FSDP2
from hmgan.train.engines.replicated import Replicated
from hmgan.train.prepare import prepare

FINE = ("class_net=none", "modulation=none")


def refused(shards, source, *overrides, **extra):
    with pytest.raises(UserError) as caught:
        prepare(tiny.transfer(shards, source, *overrides, **extra))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_default_holds_everything_on_every_rank(shards, source):
    experiment = tiny.transfer(shards, source)
    assert experiment.compute.engine.name == "replicated"
    assert isinstance(choose.engine_of(experiment, Runtime()), Replicated)


def test_one_rank_has_nobody_to_divide_with(shards, source, tmp_path):
    trainer = tiny.make_trainer(tiny.transfer(shards, source, "compute.engine=fsdp2", "train.kimg=0.004"), tmp_path)
    assert isinstance(trainer.engine, Replicated)
    trainer.take_step(next(trainer.batches()))


def test_without_deepspeed_one_line_says_how_to_get_it(shards, source, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # an import of it fails
    text = "engines zero1 and zero2 need DeepSpeed: pip install 'hmgan[deepspeed]'"
    assert refused(shards, source, "compute.engine=zero2") == text
    run = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path, "--batch", 4)
    assert tiny.command(*run, "--set", "compute.engine=zero1") == 2
    assert capfd.readouterr().err == f"error: {text}\n"
    assert not list(tmp_path.iterdir())
    prepare(tiny.transfer(shards, source))  # nobody else asks for it


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (
            "zero3",
            "no engine named 'zero3': it would divide D's weights, which R1's double backward needs whole; take ",
        ),
        ("zer2", "no engine named 'zer2'; did you mean 'zero2'? known: fsdp2, replicated, zero1, zero2"),
        ({"name": "fsdp2", "unit": 0}, "compute.engine.unit should be greater than or equal to 1, got 0"),
        ({"name": "zero1", "unit": 1}, "unknown key 'compute.engine.unit'; known: config"),
    ],
)
def test_an_engine_that_is_not_there_is_refused(engine, text, shards, source):
    with pytest.raises(UserError, match=rf"^{re.escape(text)}"):
        prepare(tiny.transfer(shards, source, compute={"engine": engine}))


@pytest.mark.parametrize("sizes", [{"dp_replicate_size": 3}, {"dp_replicate_size": 2, "dp_shard_size": 4}])
def test_replicas_and_shares_that_do_not_make_the_ranks_are_refused(sizes):
    with pytest.raises(UserError, match=r"dp_shard_size \d, whose product must be the 4 ranks; change one$"):
        FSDP2(SimpleNamespace(world=4), **sizes)
    FSDP2(SimpleNamespace(world=1), **sizes)  # where nobody divides anything


@pytest.mark.parametrize(
    ("engine", "overrides", "text"),
    [
        ("fsdp2", ("modulation=cgan-transfer-port",), "and modulation 'cgan-transfer-port' has a loss on them; take "),
        (
            "fsdp2",
            ("class_net=none", "modulation=none", "gen_penalty=ewc"),
            "and gen_penalty has a loss on them; take ",
        ),
        (
            "fsdp2",
            ("class_net=none", "modulation=none", "players=mining", "players.kimg=1.0"),
            "changes from step to step; take ",
        ),
    ],
)
def test_what_an_engine_cannot_train_is_refused_before_a_run_is_made(engine, overrides, text, shards, source):
    assert text in refused(shards, source, f"compute.engine={engine}", *overrides)


@pytest.mark.parametrize(("unedited", "text"), [("true", "divides no single numbers such as "), ("false", None)])
def test_single_numbers_that_train_are_refused_by_fsdp2(unedited, text, shards, tmp_path):
    source = tiny.write_source(tmp_path, "stylegan2")
    overrides = ("compute.engine=fsdp2", f"train.unedited={unedited}")
    if text:
        assert text in refused(shards, source, *overrides)
    else:
        tiny.prepare(tiny.transfer(shards, source, *overrides))


def test_a_modulation_that_fsdp2_cannot_see_into_is_refused(shards, source, monkeypatch):
    class Opaque:
        pass

    task = prepare(tiny.transfer(shards, source)).task
    monkeypatch.setattr(task.generator, "edits", lambda labels: {"site": Opaque()})
    with pytest.raises(
        UserError, match=r"^engine fsdp2 cannot see into a Opaque, which this modulation's edits hold; "
    ):
        choose.named(tiny.transfer(shards, source, "compute.engine=fsdp2"), Runtime()).check(task)


@pytest.mark.parametrize("stage", [1, 2])
def test_the_files_in_launch_are_what_the_engines_read(stage):
    path = launch_file(f"deepspeed-zero{stage}.json")
    assert zero.read(path, stage) == json.loads(path.read_text())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"zero_optimization": {"stage": 3}}, "stage 3 divides the weights, which R1's double backward needs whole: "),
        ({"zero_optimization": {"stage": 2}}, " is of stage 2, and the engine is zero1; change one"),
        ({"gradient_clipping": 1.0}, " must say gradient_clipping 0.0: DeepSpeed's own default cuts gradients"),
        ({"bf16": {"enabled": True}}, " says 'bf16', which the experiment says; leave it out"),
        ({"optimizer": {"type": "Adam"}}, " says 'optimizer', which the experiment says; leave it out"),
    ],
)
def test_a_deepspeed_file_that_would_change_the_training_is_refused(changes, text, tmp_path):
    (tmp_path / "ds.json").write_text(
        json.dumps({"gradient_clipping": 0.0, "zero_optimization": {"stage": 1}, **changes})
    )
    with pytest.raises(UserError, match=re.escape(text)):
        zero.read(tmp_path / "ds.json", 1)


def test_a_deepspeed_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"missing.json is not a readable DeepSpeed file"):
        zero.read(tmp_path / "missing.json", 1)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UserError, match=r"list.json is not a readable DeepSpeed file"):
        zero.read(tmp_path / "list.json", 1)


@pytest.mark.parametrize(
    ("engine", "gen", "disc"),
    [
        # Trained numbers: weight, gradient, two moments and, of G, the average; DeepSpeed has weights of its own.
        ("replicated", 5, 4),
        ("zero1", 3 + 2 / 2 + 1 / 2, 2 + 2 / 2 + 1 / 2),
        ("zero2", 2 + 3 / 2 + 1 / 2, 1 + 3 / 2 + 1 / 2),
        ("fsdp2", 5 / 2, 4),
    ],
)
def test_the_estimate_of_memory_knows_what_an_engine_divides(engine, gen, disc, shards, source, monkeypatch):
    monkeypatch.setattr(zero, "imported", lambda: None)
    prepared = prepare(tiny.transfer(shards, source, "train.batch=8", f"compute.engine={engine}"))
    alone = {row.name: row for row in dryrun.rows(prepared)}
    monkeypatch.setattr(Runtime, "world", 2)
    for row in dryrun.rows(prepared):
        names = ("weights", "gradients", "moments", "average", "master")
        factor, frozen = (disc, 1) if row.name == "discriminator" else (gen, 0.5 if engine == "fsdp2" else 1)
        expected = 4 * (factor * row.trained + frozen * row.frozen)
        assert row.total == pytest.approx(expected, abs=4 * len(names)), row.name
        assert alone[row.name].total == 4 * ((4 if row.name == "discriminator" else 5) * row.trained + row.frozen)


def test_a_run_goes_on_under_another_engine_and_in_other_parts(shards, source, tmp_path, capfd):
    run = ("train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", tmp_path, "--batch", 8)
    assert tiny.command(*run, "--kimg", 0.008, *tiny.options(train__trackers="[]")) == 0
    (folder,) = tmp_path.iterdir()
    other = tiny.options(compute__engine__name="fsdp2", compute__engine__unit=7, train__accumulate=2)
    assert tiny.command("train", "hyper-mod-b", "--resume", folder, "--kimg", 0.016, *other) == 0
    kept = json.loads((folder / "config.json").read_text())
    whole = {"name": "fsdp2", "unit": 7, "dp_replicate_size": 1, "dp_shard_size": 0}
    assert (kept["compute"]["engine"], kept["train"]["accumulate"]) == (whole, 2)
    assert "finished" in (folder / "log.txt").read_text().splitlines()[-1]
    capfd.readouterr()
    assert tiny.command("train", "hyper-mod-b", "--resume", folder, *tiny.options(compute__engine="fsdp3")) == 2
    assert "no engine named 'fsdp3'; did you mean 'fsdp2'?" in capfd.readouterr().err
    assert tiny.command("train", "hyper-mod-b", "--resume", folder, *tiny.options(optimizer__lr=1.0)) == 2
    allowed = "only --kimg or --set train.kimg, --set compute.engine, --set compute.checkpoint, --set "
    assert allowed in capfd.readouterr().err
