"""Checkpoints are whole or not there, and a damaged one is said to be."""

from __future__ import annotations

import errno
import json
import os
import shutil

import pytest
import torch
from torch import nn

from hmgan.errors import UserError
from hmgan.train import checkpoint


def parts(seed=0, width=3):
    """A network and its Adam after one step."""
    torch.manual_seed(seed)
    network = nn.Linear(width, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1, betas=(0.0, 0.99), fused=True)
    network(torch.randn(4, width)).square().sum().backward()
    optimizer.step()
    return {"network": network, "optimizer": optimizer}


def equal(a, b):
    networks = all(torch.equal(x, y) for x, y in zip(a["network"].parameters(), b["network"].parameters(), strict=True))
    one, two = (p["optimizer"].state_dict() for p in (a, b))
    slots = all(
        torch.equal(one["state"][i][name], two["state"][i][name]) for i in one["state"] for name in one["state"][i]
    )
    return networks and slots and one["param_groups"] == two["param_groups"]


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "checkpoints" / "000000007"
    checkpoint.write(folder, checkpoint.copy_of(parts()), {"step": 7})
    return folder


def refusal(folder, into):
    with pytest.raises(UserError) as caught:
        checkpoint.load(folder, into)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_networks_optimisers_and_state_come_back_exactly(saved):
    other = parts(seed=1)
    assert not equal(other, parts())
    state = checkpoint.load(saved, other)
    assert equal(other, parts())
    assert state["step"] == 7
    assert isinstance(other["optimizer"].param_groups[0]["betas"], tuple)


@pytest.mark.parametrize("spoil", ["cut", "flip", "no-tensors", "cut-state", "no-state", "digit", "no-step", "groups"])
def test_a_damaged_checkpoint_is_a_clear_error_and_changes_nothing(spoil, saved):
    tensors, state = saved / checkpoint.TENSORS, saved / checkpoint.STATE
    content = tensors.read_bytes()
    if spoil == "cut":
        tensors.write_bytes(content[:-8])
    elif spoil == "flip":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif spoil == "no-tensors":
        tensors.unlink()
    elif spoil == "cut-state":
        state.write_text(state.read_text()[:40])
    elif spoil == "digit":
        state.write_text(state.read_text().replace('"step": 7', '"step": 9'))
    elif spoil == "no-step":  # without a digest, as one of an earlier version
        state.write_text(json.dumps(without(json.loads(state.read_text()), "step", "digest")))
    elif spoil == "groups":
        state.write_text(json.dumps(without(json.loads(state.read_text()), "digest") | {"groups": [1]}))
    else:
        state.unlink()
    other = parts(seed=1)
    expected = f"checkpoint {saved} is damaged: its checksum does not match"
    assert refusal(saved, other) == expected
    assert equal(other, parts(seed=1))


def test_a_checkpoint_of_an_earlier_version_without_a_digest_is_read(saved):
    state = saved / checkpoint.STATE
    state.write_text(json.dumps(without(json.loads(state.read_text()), "digest")))
    assert checkpoint.load(saved, parts(seed=1))["step"] == 7


def without(state, *keys):
    return {key: value for key, value in state.items() if key not in keys}


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(code, saved, monkeypatch):
    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(checkpoint, "sha256_of", fail)
    with pytest.raises(UserError) as error:
        checkpoint.load(saved, parts())
    assert os.strerror(code) in str(error.value)
    assert "damaged" not in str(error.value)


def test_a_checkpoint_of_other_networks_is_a_clear_error(saved):
    assert refusal(saved, parts(width=4)).startswith(f"{saved}: network does not fit this experiment (")


def dying(monkeypatch, name):
    def die(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, name, die)


@pytest.mark.parametrize("name", ["save_file", "sha256_of"])
def test_a_failed_write_is_one_line_and_leaves_the_old_checkpoints_and_no_other(name, saved, monkeypatch):
    dying(monkeypatch, name)  # at the first file, or between the two
    for folder in (saved, saved.with_name("000000009")):
        with pytest.raises(UserError) as caught:
            checkpoint.write(folder, checkpoint.copy_of(parts(seed=2)), {"step": 9})
        assert str(caught.value) == (
            f"checkpoint {folder} cannot be written: [Errno 28] No space left on device; "
            "those before it are whole: make room, and --resume"
        )
    monkeypatch.undo()
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert checkpoint.newest(saved.parent) == saved
    other = parts(seed=1)
    checkpoint.load(saved, other)
    assert equal(other, parts())


def test_what_a_killed_run_left_is_no_checkpoint_and_goes_with_the_next_prune(saved):
    half = saved.with_name(".000000009.4242.partial")
    half.mkdir()
    (half / checkpoint.TENSORS).write_bytes(b"half of it")
    assert checkpoint.newest(saved.parent) == saved
    checkpoint.prune(saved.parent, 2)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_newest_whole_checkpoint_is_taken(saved):
    assert checkpoint.newest(saved.parent / "nothing") is None
    later = saved.with_name("000000010")
    shutil.copytree(saved, later)
    assert checkpoint.newest(saved.parent) == later
    (later / checkpoint.STATE).unlink()
    assert checkpoint.newest(saved.parent) == saved


def test_pruning_keeps_the_newest(tmp_path):
    for step in (2, 4, 10, 100):
        checkpoint.write(tmp_path / f"{step:09d}", checkpoint.copy_of(parts()), {"step": step})
    checkpoint.prune(tmp_path, 2)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["000000010", "000000100"]
    assert json.loads((tmp_path / kept[1] / checkpoint.STATE).read_text())["step"] == 100


def test_a_copy_is_apart_from_the_networks():
    live = parts()
    copy = checkpoint.copy_of(live)
    before = {name: value.clone() for name, value in copy.tensors.items()}
    with torch.no_grad():
        for parameter in live["network"].parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in copy.tensors.items())


def test_a_damaged_checkpoint_is_put_aside_out_of_the_way_of_resume_and_pruning(saved):
    aside = checkpoint.put_aside(saved)
    assert checkpoint.stored(saved.parent) == []
    checkpoint.prune(saved.parent, 1)
    assert [path.name for path in saved.parent.iterdir()] == [aside.name] == ["damaged-000000007"]
