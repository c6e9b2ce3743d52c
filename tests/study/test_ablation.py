"""Every row of the ablation trains: its own settings, on the tiny world."""

from __future__ import annotations

import pytest
import tiny
import torch

from hmgan.config import entries
from hmgan.config.loading import load_experiment
from hmgan.study.plan import load_study

STUDY = load_study("ablation")
# What a row turns on shows in the names of its losses.
NAMED = {"adc": "loss/class-fake", "mode-seeking": "loss/gen-penalty", "noisy-twins": "loss/gen-penalty"}


@pytest.mark.parametrize("row", STUDY.rows, ids=[row.name for row in STUDY.rows])
def test_a_row_trains_two_steps(row, shards, source, tmp_path):
    where = (f"data={shards}", f"source={source}")
    experiment = load_experiment(row.experiment, (*STUDY.set, *row.set, *where))
    trainer = tiny.make_trainer(experiment, tmp_path)
    batches = trainer.batches()
    for step in range(2):
        trainer.step = step
        stats = trainer.take_step(next(batches))
        assert all(bool(torch.isfinite(value)) for value in stats.values())
    for word, name in NAMED.items():
        assert name in stats or not row.name.endswith(word)


def test_each_component_for_variety_has_a_row_on_both_methods():
    for prefix in ("best", "b"):
        told = " ".join(word for row in STUDY.rows if row.name.split("-")[0] == prefix for word in row.set)
        for kind, names in (("disc-head", ("adc", "transitional")), ("gen-penalty", ("mode-seeking", "noisy-twins"))):
            assert set(names) <= set(entries.known(kind))
            assert all(f"{kind.replace('-', '_')}={name}" in told for name in names)
        assert "task.within_class=true" in told
        assert "gen_class_weight=0.25" in told
