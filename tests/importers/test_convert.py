"""`hmgan import`: a checkpoint of the port becomes a source, and every tensor is accounted for."""

from __future__ import annotations

import json
import re
from collections import OrderedDict

import pytest
import torch
from reference_stylegan1 import (
    discriminate,
    generate,
    noise_maps,
    port_checkpoint,
    port_generator,
    styles_of,
)
from rich.console import Console

from hmgan import components
from hmgan.generators.source import load_source
from hmgan.importers.convert import import_checkpoint
from hmgan.types import Latents

WIDTHS = (8, 8, 7, 8, 6, 4)  # 4 to 128 px, so that the last block is fused
BLUR = "generator.progression.1.conv1.2.weight"


def ignore(report):
    return None


def image_of(state, blocks):
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(4)).double()
    latents = Latents(z, noise_maps(2, blocks), z, torch.tensor([blocks] * 2))
    return latents, generate(state, [styles_of(state, z)] * blocks, latents.noise)[0]


def imported(tmp_path, content, name="port.model", **options):
    torch.save(content, tmp_path / name)
    report = import_checkpoint(tmp_path / name, tmp_path / "out", report=ignore, **options)
    return report, load_source(str(tmp_path / "out"))


def assert_equals(source, state, blocks):
    latents, image = image_of(state, blocks)
    torch.testing.assert_close(source.backbone.double()(latents).image, image, rtol=1e-9, atol=1e-9)


def test_an_imported_d_takes_groups_that_ranks_can_share_and_the_report_says_so(tmp_path):
    report, source = imported(tmp_path, port_checkpoint(WIDTHS[:2]))
    choice, _ = source.discriminator
    assert choice.options["stddev_group"] == 4
    assert any("over groups of 4 (--stddev-group)" in note for note in report.notes)
    assert not components.build("discriminator", choice.name, 1, **choice.options).mixes_batch


def test_an_imported_d_of_the_whole_batch_says_what_that_asks_for(tmp_path):
    report, _ = imported(tmp_path, port_checkpoint(WIDTHS[:2]), stddev_group=0)
    assert any("over the whole batch, as the port does" in note for note in report.notes)


@pytest.mark.parametrize("activation", [True, False], ids=["rgb-activation", "plain-rgb"])
def test_a_checkpoint_becomes_a_source_with_both_networks(tmp_path, activation):
    content = port_checkpoint(WIDTHS, activation)
    _, source = imported(tmp_path, content, stddev_group=2)
    assert_equals(source, content["g_running"], len(WIDTHS))
    choice, state = source.discriminator
    assert choice.options == {
        "resolution": 128,
        "channels": list(WIDTHS),
        "rgb_activation": activation,
        "stddev_group": 2,
    }
    network = components.build("discriminator", choice.name, 1, **choice.options)
    network.load_source(state)
    images = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(5)).double()
    logits = network.double()(images, torch.tensor([0, 0])).logit
    torch.testing.assert_close(logits[:, None], discriminate(content["discriminator"], images), rtol=1e-9, atol=1e-9)


def test_widths_latent_size_and_mapping_depth_are_read_from_the_shapes(tmp_path):
    state = port_generator((4, 6, 2), z_dim=5, layers=3)
    _, source = imported(tmp_path, {"generator": state})
    options = {"resolution": 16, "channels": [4, 6, 2], "z_dim": 5, "mapping_layers": 3}
    assert source.config["backbone"] == {"name": "stylegan1", **options}


def test_the_folder_says_where_it_came_from(tmp_path):
    report, source = imported(tmp_path, port_checkpoint(WIDTHS[:3]))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "discriminator.safetensors",
        "model.safetensors",
        "report.txt",
    ]
    assert source.config["imported_from"] == "port.model"
    assert source.config["imported_weights"] == "g_running"
    assert re.fullmatch("[0-9a-f]{64}", source.config["imported_sha256"])
    assert (tmp_path / "out" / "report.txt").read_text() == report.text()


def test_the_running_average_is_preferred_and_the_raw_generator_left_out(tmp_path):
    content = port_checkpoint(WIDTHS[:3])
    report, source = imported(tmp_path, content)
    assert_equals(source, content["g_running"], 3)
    raw = [entry for entry in report.left_out if entry.reason == "raw weights; g_running is used"]
    assert [entry.theirs for entry in raw] == [f"generator/{name}" for name in content["generator"]]


def test_without_a_running_average_the_raw_generator_is_taken(tmp_path):
    state = port_generator(WIDTHS[:3])
    report, source = imported(tmp_path, {"generator": state})
    assert_equals(source, state, 3)
    assert source.discriminator is None
    assert report.notes[1:] == ("no discriminator in the file; training will begin with a new one",)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "before-torch-1.6"])
def test_a_bare_state_dict_with_data_parallels_prefix_is_read(tmp_path, legacy):
    state = port_generator(WIDTHS[:3])
    prefixed = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    torch.save(prefixed, tmp_path / "port.model", _use_new_zipfile_serialization=not legacy)
    import_checkpoint(tmp_path / "port.model", tmp_path / "out", report=ignore)
    assert_equals(load_source(str(tmp_path / "out")), state, 3)


def test_data_parallels_prefix_is_dropped_within_a_checkpoint(tmp_path):
    content = port_checkpoint(WIDTHS[:3])
    parts = ("g_running", "discriminator")
    _, source = imported(tmp_path, {key: {f"module.{k}": v for k, v in content[key].items()} for key in parts})
    assert_equals(source, content["g_running"], 3)


@pytest.mark.parametrize("resolution", [4, 8, 32, 64])
def test_a_lower_resolution_takes_that_to_rgb_and_leaves_out_what_is_above(tmp_path, resolution):
    content, blocks = port_checkpoint(WIDTHS), (resolution // 4).bit_length()
    report, source = imported(tmp_path, content, resolution=resolution, stddev_group=0)
    assert_equals(source, content["g_running"], blocks)
    reasons = {entry.theirs: entry.reason for entry in report.left_out}
    assert reasons["g_running/generator.progression.5.conv1.0.weight"] == f"above {resolution} px"
    assert reasons["discriminator/from_rgb.0.0.conv.bias"] == f"above {resolution} px"
    network = components.build("discriminator", "stylegan1", 1, **source.discriminator[0].options)
    network.load_source(source.discriminator[1])
    images = torch.randn(2, 3, resolution, resolution, generator=torch.Generator().manual_seed(5)).double()
    logits = network.double()(images, torch.tensor([0, 0])).logit
    torch.testing.assert_close(logits[:, None], discriminate(content["discriminator"], images), rtol=1e-9, atol=1e-9)


def test_the_report_names_every_tensor_once_with_its_fate(tmp_path):
    content = port_checkpoint(WIDTHS)
    report, source = imported(tmp_path, content)
    theirs = [m.theirs for m in report.matched] + [entry.theirs for entry in report.left_out]
    names = [f"{key}/{name}" for key in ("generator", "g_running", "discriminator") for name in content[key]]
    assert sorted(theirs) == sorted([*names, "g_optimizer"])
    ours = {f"generator {name}" for name in source.backbone.state_dict()}
    ours |= {f"discriminator {name}" for name in source.discriminator[1]}
    assert {f"{m.network} {m.ours}" for m in report.matched} == ours
    assert report.new == ()
    reasons = {entry.theirs: entry.reason for entry in report.left_out}
    assert reasons[f"g_running/{BLUR}"] == "constant"
    assert reasons["g_running/generator.to_rgb.0.conv.bias"] == "to-RGB below 128 px"
    assert reasons["g_optimizer"] == "no network of the port"
    text = report.text()
    fused = "g_running/generator.progression.5.conv1.0.weight -> generator blocks.5.conv1.weight [4, 6, 3, 3]"
    assert f"  {fused} (transposed and flipped)\n" in text
    assert "new (ours, nothing of theirs): 0\n" in text


def test_the_summary_counts_tensors_per_network(tmp_path, capsys):
    torch.save({"generator": port_generator(WIDTHS[:2])}, tmp_path / "port.model")
    report = import_checkpoint(tmp_path / "port.model", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "port.model: generator at 8 px, sha256" in printed
    assert "note: no discriminator in the file" in printed
    console = Console(width=80)
    with console.capture() as captured:
        console.print(report.table())
    row = [line for line in captured.get().splitlines() if "generator" in line]
    assert [int(n) for n in re.findall(r"\d+", row[0])] == [len(report.matched), 0, len(report.left_out)]


def test_an_untrained_output_is_pointed_out(tmp_path):
    state = port_generator(WIDTHS[:4])
    for i in (2, 3):
        state[f"generator.to_rgb.{i}.conv.bias"].zero_()
    report, _ = imported(tmp_path, {"generator": state})
    assert report.notes[-1] == "the to-RGB layer at 32 px looks untrained; consider --resolution 8"


def test_half_precision_is_read(tmp_path):
    state = port_generator(WIDTHS[:3])
    halves = {name: tensor.half() for name, tensor in state.items()}
    _, source = imported(tmp_path, {"generator": halves})
    assert_equals(source, {name: tensor.float() for name, tensor in halves.items()}, 3)


def test_config_json_is_what_load_source_reads(tmp_path):
    imported(tmp_path, port_checkpoint(WIDTHS[:2]))
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["format"] == "hmgan-source/1"
    assert config["discriminator"]["rgb_activation"] is True
