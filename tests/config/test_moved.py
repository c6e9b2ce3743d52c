"""Settings that have moved: what is said of an old key, and runs of the version before."""

from __future__ import annotations

import json

import pytest

from hmgan.config.loading import load_experiment, read_experiment, to_table
from hmgan.config.moved import DROPPED, MOVED, refuse, renamed
from hmgan.errors import UserError

# [train] as a run of the version before keeps it, defaults and all.
OLD_TRAIN = {
    "kimg": 6.0,
    "labels": False,
    "batch": 8,
    "mixing": 0.5,
    "mirror": True,
    "workers": 2,
    "on_corrupt": "skip",
    "corrupt_share": 0.25,
    "contrastive_weight": 0.125,
    "class_weight": 0.75,
    "class_fakes": False,
    "gen_penalty_weight": 3.0,
    "freeze": ["from_rgb"],
    "precision": "bf16",
    "tf32": False,
    "channels_last": True,
    "compile": True,
    "threads": 3,
}
OLD = {
    "summary": "a run of the version before",
    "source": "fashion-32",
    "data": "fashion-close",
    "engine": {"name": "fsdp2", "unit": 7},
    "train": OLD_TRAIN,
}
CLASSES = {"class_net": {"name": "mlp"}, "modulation": {"name": "adafm"}}


def read(tmp_path, **more):
    (tmp_path / "config.json").write_text(json.dumps({**OLD, **more}))
    return read_experiment(tmp_path / "config.json")


def test_a_transfer_of_the_version_before_keeps_every_setting(tmp_path):
    heads = {"disc_head": {"name": "auxiliary-classifier"}, "contrastive": {"name": "dcl"}}
    experiment = read(tmp_path, task="transfer", **CLASSES, **heads)
    assert experiment.conditional
    assert experiment.task.name == "gan"
    assert experiment.task.options == {
        "mixing": 0.5,
        "freeze": ["from_rgb"],
        "within_class": False,
        "path_length": 0.0,
        "path_every": 4,
    }
    assert experiment.disc_head.options == {"class_weight": 0.75, "gen_class_weight": None, "class_fakes": False}
    assert experiment.contrastive.options == {"weight": 0.125}
    loader, compute = experiment.loader, experiment.compute
    assert (loader.mirror, loader.workers, loader.on_corrupt, loader.corrupt_share) == (True, 2, "skip", 0.25)
    assert (compute.precision, compute.tf32, compute.threads, compute.engine.name) == ("bf16", False, 3, "fsdp2")
    assert compute.engine.options == {"unit": 7, "dp_replicate_size": 1, "dp_shard_size": 0}


def test_what_belongs_to_a_component_that_is_not_there_is_left_out(tmp_path):
    experiment = read(tmp_path, task="transfer", disc_head={"name": "logit-per-class"}, **CLASSES)
    assert experiment.disc_head.options == {}
    assert experiment.contrastive is experiment.gen_penalty is None


@pytest.mark.parametrize(
    ("more", "task", "players"),
    [
        ({"task": "align", **CLASSES}, "alignment", None),
        ({"task": "transfer", "mining": {"kimg": 2.0}}, "gan", ("mining", {"kimg": 2.0})),
        (
            {"task": "transfer", "anchors": {"count": 3, "spread": 0.5, "every": 2, "patch_blocks": 1}},
            "gan",
            ("anchors", {"count": 3, "spread": 0.5, "every": 2, "patch_blocks": 1}),
        ),
    ],
    ids=["alignment", "mining", "anchors"],
)
def test_the_methods_of_the_version_before_are_tasks_and_players_now(more, task, players, tmp_path):
    experiment = read(tmp_path, **more)
    assert experiment.task.name == task
    assert (experiment.players and (experiment.players.name, experiment.players.options)) == players


@pytest.mark.parametrize("labels", [True, False])
def test_a_reconstruction_of_the_version_before_keeps_its_settings_and_its_labels(labels, tmp_path):
    train = {**OLD_TRAIN, "mirror": False}
    old = {"labels": labels, "limit": 9, "lr": 0.5, "drop": 0.25}
    experiment = read(tmp_path, task="transfer", reconstruction=old, **CLASSES, train=train)
    assert experiment.task.name == "reconstruction"
    assert experiment.conditional == labels
    assert (experiment.task.options["limit"], experiment.task.options["lr"]) == (9, 0.5)


@pytest.mark.parametrize(("old", "new"), MOVED.items())
def test_an_old_key_is_answered_with_the_new_one(old, new):
    *above, key = old.split(".")
    table = {above[0]: {key: 1}} if above else {key: {"name": "x"}}
    with pytest.raises(UserError, match=rf"^{old} is {new} now.*; write that in its place$"):
        refuse(table)


@pytest.mark.parametrize("old", DROPPED)
@pytest.mark.parametrize("value", [True, False])
def test_a_key_that_is_gone_is_answered_with_what_to_write_instead(old, value):
    with pytest.raises(UserError, match=rf"^{old} is gone: .*leave it out$"):
        load_experiment("hyper-mod-c", [f"{old}={str(value).lower()}"])


@pytest.mark.parametrize("value", [True, False])
def test_a_run_that_held_keys_that_are_gone_is_read_without_them(value, tmp_path):
    gone = {"channels_last": value, "compile": value}
    table = to_table(load_experiment("hyper-mod-c"))
    (tmp_path / "config.json").write_text(json.dumps({**table, "compute": {**table["compute"], **gone}}))
    assert to_table(read_experiment(tmp_path / "config.json")) == table


def test_a_table_of_today_is_read_as_it_is():
    table = to_table(load_experiment("hyper-mod-c"))
    assert renamed(table) == table
