"""Numbers that are none, or out of their bounds, get no further than the command line; in files they are refused."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import fields
from typing import get_type_hints

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from typer.models import OptionInfo

from hmgan import options
from hmgan.errors import UserError
from hmgan.options.shared import Setting
from hmgan.pictures.images import to_uint8
from hmgan.study.workers import workers

VERBS = {
    kind
    for module in pkgutil.walk_packages(options.__path__, "hmgan.options.")
    for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
    if name.endswith("Options")
}


def refused(capsys, *words):
    """The one line that a command refuses with."""
    capsys.readouterr()
    assert tiny.command(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize("verb", sorted(VERBS, key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_every_number_has_bounds_of_its_own_or_of_a_setting(verb):
    hints = get_type_hints(verb, include_extras=True)
    for field in fields(verb):
        kinds = {getattr(hints[field.name], "__origin__", None), *getattr(hints[field.name], "__args__", ())}
        kinds |= {member for kind in kinds for member in getattr(kind, "__args__", ())}
        about = getattr(hints[field.name], "__metadata__", ())
        if kinds & {int, float} and about and not any(isinstance(each, Setting) for each in about):
            assert [each.min for each in about if isinstance(each, OptionInfo)] != [None], field.name


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "1e30"])
@pytest.mark.parametrize("verb", ["sample", "mix", "evaluate"])
def test_a_truncation_that_is_no_number_is_refused_before_the_network_is_read(verb, value, capsys):
    network = ["nowhere"] if verb == "evaluate" else ["--network", "nowhere"]
    assert "Invalid value for '--trunc'" in refused(capsys, verb, *network, "--trunc", value)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["evaluate", "run", "--per-class", "-4"], "--per-class"),
        (["evaluate", "run", "--per-class", "1"], "--per-class"),
        (["compare", "smoke", "--minutes", "-5"], "--minutes"),
        (["compare", "smoke", "--minutes", "nan"], "--minutes"),
        (["compare", "smoke", "--dry-run", "--workers", "cuda:x"], "--workers"),
        (["compare", "smoke", "--dry-run", "--workers", "1000000000"], "--workers"),
        (["compare", "smoke", "--dry-run", "--workers", ""], "--workers"),
        (["pack", "images", "shards", "--threads", "0"], "--threads"),
        (["pack", "images", "shards", "--resolution", "65536"], "--resolution"),
        (["pack", "images", "shards", "--quality", "101"], "--quality"),
        (["interpolate", "--network", "run", "--steps", "100000000"], "--steps"),
        (["interpolate", "--network", "run", "--steps", "0"], "--steps"),
        (["sample", "--network", "run", "--seeds", "0-99999999999"], "--seeds"),
        (["train", "hyper-mod-b", "--gamma", "nan"], "--gamma"),
        (["train", "hyper-mod-b", "--gamma", "-1"], "gamma"),
        (["pretrain", "stylegan1-32", "--kimg", "inf"], "--kimg"),
        (["evaluate", "run", "--per-class", "2000000000"], "--per-class"),
        (["evaluate", "run", "--seed", str(10**30)], "--seed"),
        (["interpolate", "--network", "fashion-32", "--seeds", str(10**30)], "--seeds"),
        (["train", "hyper-mod-b", "--kimg", "1e308"], "kimg"),
        (["train", "hyper-mod-b", "--batch", str(10**30)], "train.batch"),
        (["train", "hyper-mod-b", "--seed", str(2**63)], "train.seed"),
        (["train", "hyper-mod-b", "--workers", "100000"], "loader.workers"),
        (["train", "hyper-mod-b", "--metrics", "2000000000"], "evaluation.per_class"),
        (["train", "hyper-mod-b", "--set", "compute.threads=1000000"], "compute.threads"),
        (["train", "hyper-mod-b", "--set", "train.timeout=1e300"], "train.timeout"),
        (["train", "hyper-mod-b", "--set", "train.timeout=1e12"], "train.timeout"),
        (["train", "hyper-mod-b", "--set", f"class_net.dim={10**30}"], "class_net.dim"),
        (["demo", "--seed", str(10**30)], "train.seed"),
    ],
)
def test_a_number_out_of_bounds_is_one_line_that_names_its_option(words, option, capsys):
    assert option in refused(capsys, *words)


@pytest.mark.parametrize("value", ["-4", "nan", "many"])
def test_the_line_says_the_value_that_was_given(value, capsys):
    assert value in refused(capsys, "evaluate", "run", "--per-class", value)
    assert value in refused(capsys, "compare", "smoke", "--minutes", value)


def test_workers_are_counted_in_hundreds_at_most():
    with pytest.raises(UserError, match="from 1 to 999"):
        workers("cpu:1000")


@pytest.fixture
def spoilt(source, tmp_path, request):
    """A copy of the tiny source, one number of which is none."""
    folder = tiny.write_source(tmp_path / "spoilt")
    tensors = load_file(folder / "model.safetensors")
    tensors["to_rgb.bias"][1] = request.param
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")], indirect=True)
@pytest.mark.parametrize("verb", ["sample", "evaluate", "export", "mix", "train"])
def test_weights_that_are_not_finite_are_refused_with_the_tensors_name(verb, spoilt, shards, tmp_path, capsys):
    words = {
        "sample": ["--network", spoilt, "--outdir", tmp_path / "out"],
        "mix": ["--network", spoilt, "--outdir", tmp_path / "out"],
        "evaluate": [spoilt, "--data", shards],
        "export": [spoilt, tmp_path / "out"],
        "train": ["hyper-mod-b", "--source", spoilt, "--data", shards, "--outdir", tmp_path / "out"],
    }[verb]
    err = refused(capsys, verb, *words)
    assert f"{spoilt / 'model.safetensors'}: to_rgb.bias holds numbers that are not finite" in err
    assert not (tmp_path / "out").exists()


def test_pixels_that_are_not_finite_are_no_picture():
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 0, 0] = torch.inf
    with pytest.raises(UserError, match="pixels that are not finite"):
        to_uint8(images)
