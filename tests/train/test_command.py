"""What the command line's own options do to an experiment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

from hmgan.config.loading import load_experiment, settings, to_table
from hmgan.options.shared import Setting
from hmgan.options.training import TrainOptions
from hmgan.train.command import configured

GIVEN = TrainOptions(
    experiment="hyper-mod-b",
    data=["here", "there"],
    source="there",
    kimg=3.5,
    batch=6,
    gamma=0.25,
    mirror=True,
    aug="diffaugment",
    snap=0.5,
    metrics=7,
    seed=11,
    workers=2,
)
SHORTCUTS = {
    name: setting.path
    for name, hint in get_type_hints(TrainOptions, include_extras=True).items()
    for setting in getattr(hint, "__metadata__", ())
    if isinstance(setting, Setting)
}


@pytest.mark.parametrize("name", SHORTCUTS)
def test_every_shortcut_sets_one_setting_of_an_experiment(name: str) -> None:
    value = getattr(GIVEN, name)
    table = settings(TrainOptions(experiment="hyper-mod-b", **{name: value}))
    before, after = (to_table(load_experiment("hyper-mod-b", (), extra)) for extra in ({}, table))
    assert before != after
    ((key, inside),) = table.items()
    assert inside == value if key == name == "source" else list(inside.values()) == [value]


def test_shortcuts_are_all_options_but_those_of_the_run_itself() -> None:
    own = {"experiment", "outdir", "resume", "overrides", "dry_run"}
    assert set(SHORTCUTS) == {field.name for field in fields(TrainOptions)} - own
    assert settings(GIVEN).keys() == {path.split(".")[0] for path in SHORTCUTS.values()}


def test_options_that_are_not_given_leave_the_experiment_as_it_is() -> None:
    assert settings(TrainOptions(experiment="hyper-mod-b", outdir=Path("elsewhere"))) == {}


def test_a_shortcut_wins_over_an_override() -> None:
    options = TrainOptions(experiment="hyper-mod-b", batch=6, overrides=["train.batch=8"])
    assert configured(options).train.batch == 6
