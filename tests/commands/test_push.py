"""A model goes to a hub and comes back: safetensors, JSON and the card, and nothing else that lies there."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
from huggingface_hub import constants
from local_hub import hub
from trained import trained

import hmgan


@pytest.fixture(scope="module")
def exported(shards, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pushed")
    run = trained(shards, source, folder / "run")[1]
    assert tiny.command("export", run / "snapshots" / "000000.008", folder / "out") == 0
    (folder / "out" / "pytorch_model.bin").write_bytes(b"code")
    return folder / "out"


@pytest.fixture
def server(monkeypatch, tmp_path):
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield server


def test_a_pushed_model_draws_the_same_images_when_it_is_loaded_by_its_name(exported, server, capsys):
    assert tiny.command("push", exported, "anna/insects") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{server.url}/anna/insects"
    assert set(server.files["anna/insects"]) == {"README.md", "config.json", "model.safetensors"}
    there, here = (hmgan.load(place) for place in ("anna/insects", exported))
    assert np.array_equal(there.sample(range(3), "bee"), here.sample(range(3), "bee"))


def test_of_a_hub_nothing_but_safetensors_and_json_is_read(exported, server):
    for path in exported.iterdir():
        server.files.setdefault("anna/insects", {})[path.name] = path.read_bytes()
    hmgan.load("anna/insects")
    names = {line.rpartition("/")[2] for line in server.asked}
    assert names == {"config.json", "model.safetensors"}


def test_a_snapshot_whose_configuration_holds_paths_of_this_machine_is_to_be_exported_first(exported, server, capsys):
    (snapshot,) = exported.parent.glob("run/**/snapshots/000000.008")
    assert tiny.command("push", snapshot, "anna/insects") == 2
    told = f"holds paths of this machine; run `hmgan export {snapshot} NEW`, and push that"
    assert capsys.readouterr().err.rstrip().endswith(told)
    assert server.asked == []


def test_a_dry_run_asks_the_hub_nothing(exported, server, capsys):
    assert tiny.command("push", exported, "anna/insects", "--dry-run") == 0
    assert "model.safetensors, config.json, README.md" in capsys.readouterr().out
    assert server.asked == []


@pytest.mark.parametrize(
    ("files", "text"),
    [(None, "no such folder, nor repository of"), ({}, "lacks config.json and model.safetensors")],
)
def test_a_repository_without_a_model_is_one_line(server, files, text):
    if files is not None:
        server.files["anna/nothing"] = files
    with pytest.raises(ValueError, match=text) as error:
        hmgan.load("anna/nothing")
    assert "\n" not in str(error.value)


def test_a_hub_that_is_out_of_reach_is_one_line(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"no such folder, and http://.* is out of reach$"):
        hmgan.load("anna/insects")
    assert server.asked == []


def test_a_refusal_and_a_folder_without_a_model_are_one_line(exported, server, tmp_path, monkeypatch, capsys):
    assert tiny.command("push", exported, "insects") == 2
    assert capsys.readouterr().err == "error: a repository is OWNER/NAME, such as anna/bags, got 'insects'\n"
    assert tiny.command("push", tmp_path, "anna/insects") == 2
    assert "give a folder that hmgan export wrote" in capsys.readouterr().err
    monkeypatch.delenv("HF_TOKEN")
    assert tiny.command("push", exported, "anna/insects") == 2
    error = capsys.readouterr().err
    assert "log in with hf auth login" in error
    assert error.count("\n") == 1


def test_a_hub_that_does_not_answer_is_one_line(exported, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert tiny.command("push", exported, "anna/insects") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: http://127.0.0.1:9 refuses (")
    assert error.count("\n") == 1
