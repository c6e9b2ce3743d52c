"""A conditional generator on disk is whole in itself, and draws what it drew."""

from __future__ import annotations

import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from trained import images, trained

from hmgan.errors import UserError
from hmgan.generators.snapshot import load_generator, newest_snapshot
from hmgan.generators.source import load_source
from hmgan.generators.unconditional import UnconditionalGenerator

COMBINATIONS = [("adafm", "mlp"), ("adafm", "one-hot"), ("adain", "embedding"), ("cgan-transfer-port", "one-hot")]


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    return trained(shards, source, tmp_path_factory.mktemp("generators") / "run")


@pytest.fixture
def snapshot(run, tmp_path):
    """A copy of the last snapshot, to spoil."""
    return shutil.copytree(newest_snapshot(run[1]), tmp_path / "snapshot")


def refusal(path):
    with pytest.raises(UserError) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("modulation", "class_net"), COMBINATIONS)
def test_a_snapshot_draws_the_averaged_generators_images_exactly(modulation, class_net, shards, source, tmp_path):
    chosen = (f"modulation={modulation}", f"class_net={class_net}")
    averaged, folder = trained(shards, source, tmp_path / "run", *chosen)
    loaded = load_generator(folder)
    assert torch.equal(images(loaded.generator), images(averaged))
    assert loaded.classes == tiny.CLASSES
    with torch.no_grad():  # and they are not the source's
        plain = loaded.generator.source(loaded.generator.latents(range(4), 0.9), truncation=0.7).image
    assert not torch.equal(images(loaded.generator), plain)


def test_a_run_directory_stands_for_its_newest_snapshot(run):
    averaged, folder = run
    assert sorted(path.name for path in (folder / "snapshots").iterdir()) == ["000000.004", "000000.008"]
    assert newest_snapshot(folder).name == "000000.008"
    assert load_generator(folder).config["kimg"] == 0.008
    older = load_generator(folder / "snapshots" / "000000.004")
    assert older.config["kimg"] == 0.004
    assert not torch.equal(images(older.generator), images(averaged))


def test_a_snapshot_that_was_not_finished_is_passed_over(run, tmp_path):
    folder = shutil.copytree(run[1], tmp_path / "run")
    (folder / "snapshots" / "000000.008" / "config.json").unlink()
    assert load_generator(folder).config["kimg"] == 0.004


def test_a_snapshot_needs_nothing_beside_it_and_says_where_it_is_from(snapshot, source):
    loaded = load_generator(snapshot)
    assert loaded.config["source_sha256"] == load_source(str(source)).digest
    heads = {"name": "adafm", "init": "source", "epsilon": 1e-5, "live": False, "largest": 500_000_000}
    assert loaded.config["modulation"] == heads
    assert not loaded.generator.training


def test_a_source_is_an_unconditional_generator(source):
    loaded = load_generator(source)
    assert isinstance(loaded.generator, UnconditionalGenerator)
    assert loaded.classes == ("all",)
    backbone = load_source(str(source)).backbone
    latents = backbone.latents(range(3))
    with torch.no_grad():
        got = loaded.generator(latents, torch.zeros(3, dtype=torch.long)).image
        assert torch.equal(got, backbone(latents).image)


def test_a_folder_is_itself_even_where_a_registered_source_has_its_name(tmp_path, monkeypatch):
    tiny.write_source(tmp_path / "fashion-32")
    monkeypatch.chdir(tmp_path)
    assert load_generator("fashion-32").generator.resolution == 8


def test_what_is_no_generator_is_refused(tmp_path):
    assert refusal(tmp_path / "nothing").startswith(f"no generator at {tmp_path / 'nothing'} (")
    (tmp_path / "config.json").write_text("{")
    assert refusal(tmp_path).startswith(f"no generator at {tmp_path} (")
    (tmp_path / "config.json").write_text('{"task": "transfer"}')  # a run before its first snapshot
    assert refusal(tmp_path) == (
        f"no generator at {tmp_path}: no snapshot is in it yet; give a run directory with one, or a source"
    )


def test_another_format_is_refused(snapshot):
    path = snapshot / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "format": "hmgan-conditional/9"}))
    assert refusal(snapshot) == f"{path} has format 'hmgan-conditional/9', this version reads 'hmgan-conditional/1'"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"classes": None}, "classes should be a list of names, got None"),
        ({"modulation": {"name": "adafmm"}}, "no modulation named 'adafmm'; did you mean 'adafm'? known: adafm, "),
        ({"class_net": None}, "class_net should be "),
    ],
)
def test_a_wrong_configuration_is_named(change, text, snapshot):
    path = snapshot / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert text in refusal(snapshot)


def test_a_tensor_that_does_not_fit_is_named(snapshot):
    path = snapshot / "model.safetensors"
    tensors = load_file(path)
    name = "trained.class_net.embedding.weight"
    save_file({**tensors, name: tensors[name][:2].contiguous()}, path)
    assert refusal(snapshot) == f"{path}: {name} should be (3, 64), got (2, 64); it does not fit its config.json"
    save_file({k: v for k, v in tensors.items() if k != "source.to_rgb.bias"}, path)
    assert refusal(snapshot) == f"{path}: to_rgb.bias should be (3,), got nothing; it does not fit its config.json"
    path.unlink()
    assert refusal(snapshot).startswith(f"{path} is not a readable safetensors file: ")
