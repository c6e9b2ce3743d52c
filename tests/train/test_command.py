"""What the command line's own options do to an experiment."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hmgan.config import experiment as config
from hmgan.train.command import Shortcuts, TrainOptions, configured, placed

GIVEN = Shortcuts(
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


@pytest.mark.parametrize("name", [field.name for field in fields(Shortcuts)])
def test_every_shortcut_sets_one_setting_of_an_experiment(name: str) -> None:
    value = getattr(GIVEN, name)
    table = placed(Shortcuts(**{name: value}))
    before, after = (config.to_table(config.load("hyper-mod-b", (), extra)) for extra in ({}, table))
    assert before != after
    ((key, inside),) = table.items()
    assert inside == value if key == name == "source" else list(inside.values()) == [value]


def test_options_that_are_not_given_leave_the_experiment_as_it_is() -> None:
    assert placed(TrainOptions(verb="train", experiment="hyper-mod-b", outdir=Path("elsewhere"))) == {}


def test_a_shortcut_wins_over_an_override() -> None:
    options = TrainOptions(verb="train", experiment="hyper-mod-b", batch=6, overrides=["train.batch=8"])
    assert configured(options).train.batch == 6
