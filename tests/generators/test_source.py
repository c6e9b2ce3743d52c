"""A source on disk: what was saved is what is loaded, and what does not fit is said."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from hmgan import components
from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.generators import build
from hmgan.generators.source import load_source, save_source, source_folder


@pytest.fixture
def copy(source, tmp_path):
    """A source to spoil."""
    return shutil.copytree(source, tmp_path / "source")


def refusal(folder):
    with pytest.raises(UserError) as caught:
        load_source(str(folder))
    return str(caught.value)


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_both_networks_come_back_as_they_were(tmp_path):
    torch.manual_seed(3)
    backbone = components.build("backbone", "stylegan1", **tiny.BACKBONE)
    discriminator = components.build("discriminator", "stylegan1", 1, **tiny.DISCRIMINATOR)
    chosen = Choice(name="stylegan1", **tiny.BACKBONE), Choice(name="stylegan1", **tiny.DISCRIMINATOR)
    save_source(tmp_path, (chosen[0], backbone), (chosen[1], discriminator), {"summary": "mine"})
    loaded = load_source(str(tmp_path))
    latents = backbone.latents(range(4), 0.9)
    with torch.no_grad():
        assert torch.equal(loaded.backbone(latents).image, backbone(latents).image)
    choice, state = loaded.discriminator
    assert choice == chosen[1]
    assert state.keys() == discriminator.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in discriminator.state_dict().items())
    assert loaded.config["summary"] == "mine"
    assert loaded.digest == hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()


def test_a_source_may_be_stored_in_half_precision(source, tmp_path):
    whole = load_source(str(source))
    choice = Choice(name="stylegan1", **tiny.BACKBONE)
    save_source(tmp_path / "half", (choice, whole.backbone), None, {}, dtype=torch.float16)
    half = load_source(str(tmp_path / "half"))
    assert half.discriminator is None
    for name, value in whole.backbone.state_dict().items():
        got = half.backbone.state_dict()[name]
        assert got.dtype == torch.float32
        assert torch.equal(got, value.half().float())


def test_the_head_of_the_discriminator_is_copied_to_every_class(shards, source):
    experiment = tiny.transfer(shards, source)
    loaded = load_source(str(source))
    network = build.build(experiment, loaded, 3).discriminator
    state = loaded.discriminator[1]
    assert torch.equal(network.head.weight, state["head.weight"].repeat(3, 1))
    assert torch.equal(network.head.bias, state["head.bias"].repeat(3))
    assert torch.equal(network.conv2.weight, state["conv2.weight"])


@pytest.mark.parametrize("name", ["model.safetensors", "discriminator.safetensors"])
def test_a_missing_or_damaged_file_is_named(name, copy):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    assert refusal(copy).startswith(f"{copy / name} is not a readable safetensors file: ")
    (copy / name).unlink()
    assert refusal(copy).startswith(f"{copy / name} is not a readable safetensors file: ")


def test_a_tensor_that_is_wrong_missing_or_new_is_named(copy):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    for change, got in (
        ({"to_rgb.bias": torch.zeros(4)}, "to_rgb.bias should be (3,), got (4,)"),
        ({"to_rgb.bias": None}, "to_rgb.bias should be (3,), got nothing"),
        ({"extra": torch.zeros(2, 3)}, "extra should be nothing, got (2, 3)"),
    ):
        save_file({k: v for k, v in {**tensors, **change}.items() if v is not None}, path)
        assert refusal(copy) == f"{path}: {got}; it does not fit its config.json"


def test_a_wrong_configuration_is_named(copy):
    path = copy / "config.json"
    edit(copy, backbone={"name": "stylegan1", "resolutoin": 8})
    assert refusal(copy).startswith("unknown key 'backbone.resolutoin'; did you mean 'resolution'?")
    edit(copy, backbone={"resolution": 8})
    assert refusal(copy) == f"{path}: backbone.name is missing; set it, for example --set backbone.name=..."
    edit(copy, backbone=None)
    assert refusal(copy).startswith(f"{path}: backbone should be ")
    edit(copy, format="hmgan-source/9")
    assert refusal(copy) == f"{path} has format 'hmgan-source/9', this version reads 'hmgan-source/1'"
    path.write_text("[]")
    assert refusal(copy) == f"{path} has format 'list', this version reads 'hmgan-source/1'"
    path.write_text("{")
    assert refusal(copy).startswith(f"{path} is not readable: ")


def test_a_generator_of_classes_is_no_source_and_the_way_to_one_is_said():
    folder = source_folder("fashion-shoes")
    assert refusal("fashion-shoes") == (
        f"{folder} draws several classes, and a source draws one; fold one into it with "
        f"`hmgan export {folder} FOLDER --class NAME`"
    )


def test_a_source_without_a_discriminator_says_what_to_do(copy, shards):
    config = json.loads((copy / "config.json").read_text())
    del config["discriminator"]
    (copy / "config.json").write_text(json.dumps(config))
    experiment = tiny.transfer(shards, copy)
    with pytest.raises(UserError) as caught:
        build.build(experiment, load_source(str(copy)), 3)
    assert str(caught.value) == (
        f"source '{copy}' has no discriminator; import a checkpoint that has one, or name a new one with "
        "--set discriminator.name=stylegan1 --set discriminator.resolution=8"
    )


def test_a_discriminator_that_does_not_fit_is_named(copy, shards):
    state = load_file(copy / "discriminator.safetensors")
    save_file({**state, "conv2.bias": torch.zeros(5)}, copy / "discriminator.safetensors")
    with pytest.raises(UserError) as caught:
        build.build(tiny.transfer(shards, copy), load_source(str(copy)), 3)
    assert str(caught.value).startswith(f"source '{copy}': its discriminator does not fit its config.json: ")
    assert "conv2.bias" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_source(copy, monkeypatch):
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    network = load_source(str(copy)).backbone

    def fail(tensors, path):
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr("hmgan.generators.source.save_file", fail)
    with pytest.raises(OSError, match="no space"):
        save_source(copy, (Choice(name="stylegan1", **tiny.BACKBONE), network), None, {})
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
