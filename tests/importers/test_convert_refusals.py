"""`hmgan import` of anything but a checkpoint of the port: one clear line, no code run, nothing on the disk."""

from __future__ import annotations

import os
import pickle
import re

import pytest
import torch
from reference_stylegan1 import port_checkpoint, port_discriminator

from hmgan.errors import UserError
from hmgan.importers.convert import import_checkpoint
from importers import envelopes
from importers.envelopes import SMALL, stirred

WIDTHS = (8, 8, 7, 8, 6, 4)  # 4 to 128 px, so that the last block is fused
BLUR = "generator.progression.1.conv1.2.weight"


def ignore(report):
    return None


def refused(tmp_path, path, error, **options):
    """The import fails with one line that matches, and leaves the folder as it was."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=error) as caught:
        import_checkpoint(path, tmp_path / "out", report=ignore, **options)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def refused_content(tmp_path, content, error, **options):
    torch.save(content, tmp_path / "port.model")
    refused(tmp_path, tmp_path / "port.model", error, **options)


class Trap:
    """A pickle that makes a folder when it is opened by a reader that runs code."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pickle_that_needs_code_is_refused_and_runs_nothing(tmp_path, zipped):
    trap, path = tmp_path / "sprung", tmp_path / "port.model"
    torch.save({"generator": Trap(str(trap))}, path, _use_new_zipfile_serialization=zipped)
    refused(
        tmp_path,
        path,
        r"port\.model makes 'generator' by (posix|nt)\.mkdir, which is not known, and nothing was run; save the",
    )
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()


def test_a_plain_pickle_is_refused_and_runs_nothing(tmp_path):
    path = tmp_path / "port.model"
    path.write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    refused(tmp_path, path, r"port\.model makes its content by (posix|nt)\.mkdir, which is not known, and nothing was")


def test_a_whole_pickled_module_is_refused(tmp_path):
    refused_content(
        tmp_path, torch.nn.Linear(2, 2), r"by torch\.nn\.modules\.linear\.Linear, which is not known, and nothing"
    )


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "port.model is empty; download or save it again$"),
        (
            bytes(range(256)) * 20,
            "port.model is of another kind: no pickle and no zip of PyTorch's; download or save it again$",
        ),
        (b"PK\x03\x04" + bytes(range(200)), "port.model is a zip that is cut short; download"),
        (b"\n<!DOCTYPE html><html>", "port.model is a web page; download the file that the page"),
    ],
    ids=["empty", "noise", "broken-zip", "web-page"],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, error):
    (tmp_path / "port.model").write_bytes(content)
    refused(tmp_path, tmp_path / "port.model", error)


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_refused(tmp_path, seed):
    noise = torch.randint(0, 256, (3000,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    (tmp_path / "port.model").write_bytes(bytes(noise.tolist()))
    refused(tmp_path, tmp_path / "port.model", r"port\.model is of another kind")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_download_that_broke_off_is_refused(tmp_path, zipped):
    path = tmp_path / "port.model"
    torch.save(port_checkpoint(WIDTHS[:2]), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:-1000])
    refused(tmp_path, path, "is (a zip that is )?cut short; download or save it again$")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path, tmp_path / "no.model", r"no\.model is not there; give the checkpoint file$")
    refused(tmp_path, tmp_path, "is a folder; give the checkpoint file$")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([1, 2], "holds a list and no generator that is known; give a network pickle of"),
        ({}, "should have 'g_running' or 'generator', got nothing; give"),
        ({"g_ema": {"conv1.weight": torch.zeros(2)}}, "should have 'g_running' or 'generator', got g_ema; give"),
        ({"generator": 3, "epoch": 4}, "should have 'g_running' or 'generator', got epoch, generator; give"),
        (
            {"generator": {"conv1.weight": torch.zeros(2)}},
            r": generator should hold generator\.progression\.0\.conv1\.input, got 1 others; give",
        ),
        (port_discriminator((4, 4)), r": the file should hold generator\.\S+, got a discriminator; give"),
    ],
)
def test_a_dictionary_of_something_else_is_refused(tmp_path, content, error):
    refused_content(tmp_path, content, error)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("g_running", "style.3.linear.bias"),
        ("g_running", "generator.progression.1.conv1.1.conv.weight_orig"),
        ("g_running", "generator.progression.2.conv2.conv.weight_orig"),
        ("g_running", "generator.to_rgb.2.conv.bias"),
        ("discriminator", "progression.0.conv2.1.conv.bias"),
        ("discriminator", "linear.linear.weight_orig"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path, key, name):
    content = port_checkpoint(WIDTHS[:3])
    del content[key][name]
    refused_content(
        tmp_path, content, rf"port\.model: {key}/{re.escape(name)} should be in the file, got nothing; give"
    )


@pytest.mark.parametrize(
    ("key", "name", "shape", "error"),
    [
        ("g_running", "generator.progression.1.noise1.weight_orig", (8,), r"should be \(1, 8, 1, 1\), got \(8,\)"),
        ("g_running", "generator.progression.5.conv1.0.weight", (4, 6, 3, 3), r"be \(6, 4, 3, 3\), got \(4, 6, 3, 3\)"),
        (
            "g_running",
            "generator.progression.1.conv2.conv.weight_orig",
            (8, 8),
            r"have 4 dimensions, got shape \(8, 8\)",
        ),
        ("g_running", "generator.progression.1.conv2.conv.weight_orig", (0, 8, 3, 3), r"got shape \(0, 8, 3, 3\)"),
        ("g_running", "style.1.linear.weight_orig", (8, 9), r"should be \(9, 9\), got \(8, 9\)"),
        ("discriminator", "linear.linear.weight_orig", (3, 8), r"should be \(1, 8\), got \(3, 8\)"),
        (
            "discriminator",
            "progression.5.conv1.0.conv.weight_orig",
            (8, 8, 3, 3),
            r"be \(8, 9, 3, 3\), got \(8, 8, 3, 3\)",
        ),
    ],
)
def test_a_wrong_shape_is_named(tmp_path, key, name, shape, error):
    content = port_checkpoint(WIDTHS)
    content[key][name] = torch.zeros(shape)
    refused_content(tmp_path, content, error)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (torch.zeros(3, dtype=torch.int32), r"should be a floating-point tensor, got torch\.int32 \(3,\), and"),
        (torch.zeros(1).expand(10**12), "describes tensors that are larger than the file; download or save it again$"),
        (
            torch.eye(3).to_sparse(),
            r"should be a floating-point tensor, got torch\._utils\._rebuild_sparse_tensor, and nothing was",
        ),
        ("weights", "should be a floating-point tensor, got a str, and nothing was run; give the file"),
        (torch.tensor([0.0, float("nan"), 0.0]), "should be finite, got infinity or NaN; give an earlier checkpoint$"),
    ],
    ids=["integers", "expanded", "sparse", "text", "nan"],
)
def test_a_value_that_is_no_weight_is_named(tmp_path, value, error):
    content = port_checkpoint(WIDTHS[:2])
    content["g_running"]["generator.to_rgb.1.conv.bias"] = value
    refused_content(tmp_path, content, rf"g_running/generator\.to_rgb\.1\.conv\.bias {error}")


def test_another_blur_is_refused(tmp_path):
    content = port_checkpoint(WIDTHS[:2])
    content["g_running"][BLUR].fill_(1 / 9)
    refused_content(tmp_path, content, rf"g_running/{re.escape(BLUR)} should blur by \[1, 2, 1\], got another kernel")


@pytest.mark.parametrize("resolution", [-4, 0, 6, 32, 4096])
def test_a_resolution_that_the_file_has_not_is_refused(tmp_path, resolution):
    error = rf"port\.model has no output of {resolution} px; choose --resolution among 4, 8, 16$"
    refused_content(tmp_path, port_checkpoint(WIDTHS[:3]), error, resolution=resolution)


def test_a_discriminator_of_smaller_pictures_is_refused(tmp_path):
    content = port_checkpoint(WIDTHS[:4])
    content["discriminator"] = port_discriminator(WIDTHS[:3])
    error = r"the discriminator should read 32 px, got one that reads 16 px; choose a lower --resolution$"
    refused_content(tmp_path, content, error)


def test_an_empty_discriminator_is_refused(tmp_path):
    content = port_checkpoint(WIDTHS[:2]) | {"discriminator": {}}
    refused_content(tmp_path, content, "the discriminator should read 8 px, got none of its layers")


def test_a_negative_group_is_refused(tmp_path):
    error = r"^stddev_group must be 0 \(the whole batch\) or a number of samples, got -1$"
    refused_content(tmp_path, port_checkpoint(WIDTHS[:2]), error, stddev_group=-1)


def test_an_existing_folder_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    refused_content(tmp_path, port_checkpoint(WIDTHS[:2]), "out exists already; give a new folder or move it away$")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    torch.save(port_checkpoint(WIDTHS[:2]), tmp_path / "port.model")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/out cannot be written: .*; give a folder on a disk with room$"):
        import_checkpoint(tmp_path / "port.model", tmp_path / "file" / "out", report=ignore)


def test_a_failure_while_writing_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hmgan.importers.convert.write", full_disk)
    refused_content(
        tmp_path, port_checkpoint(WIDTHS[:2]), "out cannot be written: No space left on device; give a folder"
    )


@pytest.mark.parametrize(
    ("value", "problem"), [(torch.zeros(0), "hold numbers"), (torch.zeros(3, 4), "have other dimensions|be ")]
)
@pytest.mark.parametrize("name", ["conv1.noise.weight", "noises.noise_0"])
def test_a_tensor_without_numbers_or_of_other_dimensions_is_named(tmp_path, name, value, problem):
    generator = envelopes.rosinality_generator(stirred("backbone", "stylegan2", **SMALL).state_dict())
    assert name in generator
    generator[name] = value
    refused_content(tmp_path, {"g_ema": generator}, f"{re.escape(name)} should ({problem})")
