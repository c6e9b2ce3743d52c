"""A transfer begins where `hmgan align` ended."""

from __future__ import annotations

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator
from hmgan.train.prepare import prepare
from hmgan.train.tasks.alignment import aligning

ALIGN = ("modulation.name=adafm", "modulation.init=align")


@pytest.fixture(scope="module")
def aligned(shards, source, tmp_path_factory):
    """A run of `hmgan align`, three steps long."""
    outdir = tmp_path_factory.mktemp("aligned")
    steps = tiny.options(train__batch=4, train__kimg=0.012, train__trackers="[]")
    where = ["--data", shards, "--source", source, "--outdir", outdir]
    assert tiny.command("align", "hyper-mod-c-align", *where, *steps) == 0
    return next(outdir.iterdir())


def test_a_transfer_starts_from_the_aligned_parts_exactly(aligned, shards, source):
    experiment = tiny.transfer(shards, source, f"aligned={aligned}", name="hyper-mod-c-align")
    generator = prepare(experiment).networks.generator
    expected = load_generator(aligned).generator
    random = prepare(aligning(experiment.model_copy(update={"aligned": None}))).networks.generator
    latents, labels = generator.latents(range(6)), torch.arange(6) % 3
    with torch.no_grad():
        image = generator(latents, labels).image
        assert torch.equal(image, expected(latents, labels).image)
        assert not torch.equal(image, random(latents, labels).image)
        assert not torch.equal(image, generator.source(latents).image)


def test_fakes_of_a_run_begin_with_the_aligned_snapshot(aligned, shards, source, tmp_path):
    steps = tiny.options(train__batch=4, train__kimg=0.004, train__trackers="[]", aligned=aligned)
    where = ["--data", shards, "--source", source, "--outdir", tmp_path]
    assert tiny.command("train", "hyper-mod-c-align", *where, *steps) == 0
    (run,) = tmp_path.iterdir()
    assert (run / "fakes_init.png").read_bytes() == (aligned / "fakes000000.012.png").read_bytes()
    assert (run / "fakes_init.png").read_bytes() != (aligned / "fakes_init.png").read_bytes()


def refusal(experiment):
    with pytest.raises(UserError) as caught:
        prepare(experiment)
    return str(caught.value)


def test_random_heads_without_alignment_are_refused(shards, source):
    assert refusal(tiny.transfer(shards, source, name="hyper-mod-c-align")) == (
        "modulation.init is 'align', which starts from random heads; run hmgan align with this experiment first, "
        "then hmgan train with --set aligned=RUN; init 'random' trains such heads unaligned"
    )


def test_other_parts_classes_or_sources_are_refused(aligned, shards, source, tmp_path):
    given = f"aligned={aligned}"
    text = refusal(tiny.transfer(shards, source, given, *ALIGN, "class_net=embedding"))
    assert text.startswith(f"aligned {aligned} has class_net {{'name': 'mlp', 'dim': 64,")
    assert text.endswith("align it again")
    assert refusal(tiny.transfer(shards, source, given, "modulation=adain")).startswith(f"aligned {aligned} has modul")

    two = tmp_path / "two"
    tiny.write_images(tmp_path / "images")
    for path in (tmp_path / "images" / "cat").iterdir():
        path.unlink()
    (tmp_path / "images" / "cat").rmdir()
    assert tiny.command("pack", tmp_path / "images", two) == 0
    expected = f"aligned {aligned} has 3 classes, the data 2; align it again"
    assert refusal(tiny.transfer(two, source, given, *ALIGN)) == expected

    other = tiny.write_source(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value + 0.1 for name, value in weights.items()}, other / "model.safetensors")
    expected = f"aligned {aligned} is of another source, {source}; align this one again"
    assert refusal(tiny.transfer(shards, other, given, *ALIGN)) == expected


def test_what_is_no_aligned_run_is_refused(shards, source, tmp_path):
    assert refusal(tiny.transfer(shards, source, f"aligned={source}", *ALIGN)) == (
        f"aligned {source} is unconditional; give a run of hmgan align"
    )
    assert refusal(tiny.transfer(shards, source, f"aligned={tmp_path}", *ALIGN)).startswith(
        f"no generator at {tmp_path} ("
    )
