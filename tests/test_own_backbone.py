"""docs/architecture.md's page "A backbone of your own", followed literally."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import tiny
import torch

from hmgan import components
from hmgan.config.settings import Choice
from hmgan.data.images import Reading
from hmgan.data.loader import batches
from hmgan.generators.fold import folded
from hmgan.generators.source import load_source, save_source

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text()
OPTIONS = {"resolution": 8, "channels": 8, "z_dim": 6}


@pytest.fixture
def dcgan(monkeypatch):
    """The page's own backbone, registered for one test."""
    (block,) = re.findall(r"^```python\n(# dcgan\.py\n.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(block.splitlines()) < 80
    module = ModuleType("dcgan")
    monkeypatch.setitem(sys.modules, "dcgan", module)
    exec(compile(block, "dcgan.py", "exec", dont_inherit=True), module.__dict__)
    yield module.DCGAN
    components._REGISTRY.pop(("backbone", "dcgan"))
    components.schema.cache_clear()


def one_step(experiment, folder):
    trainer = tiny.make_trainer(experiment, folder)
    stats = trainer.take_step(next(batches(trainer.task.data, Reading(batch_per_rank=4, seed=0))))
    assert all(bool(torch.isfinite(value)) for value in stats.values())
    return trainer


def test_it_pretrains_and_is_transferred_and_a_class_folds(dcgan, shards, tmp_path):
    whole = tiny.pretraining(shards)
    table = {**whole.model_dump(), "backbone": {"name": "dcgan", **OPTIONS}}
    pretrained = one_step(type(whole).model_validate(table), tmp_path / "pretraining")
    assert type(pretrained.task.generator.backbone) is dcgan

    torch.manual_seed(0)
    judge = components.build("discriminator", "stylegan1", 1, **tiny.DISCRIMINATOR)
    choices = Choice(name="dcgan", **OPTIONS), Choice(name="stylegan1", **tiny.DISCRIMINATOR)
    save_source(tmp_path / "source", (choices[0], dcgan(**OPTIONS)), (choices[1], judge), {"summary": "tiny"})
    assert set(load_source(str(tmp_path / "source")).backbone.sites()) == {"fc", "convs.0"}
    trainer = one_step(tiny.transfer(shards, tmp_path / "source"), tmp_path / "transfer")
    generator = trainer.task.generator.eval()
    drawn = generator.latents(range(3))
    with torch.no_grad():
        wanted = generator(drawn, torch.full((3,), 1)).image
        torch.testing.assert_close(folded(generator, 1)(drawn).image, wanted)
