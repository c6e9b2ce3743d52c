"""Every rank writes its share of a checkpoint: together they are what one file would hold, for a world of any size."""

from __future__ import annotations

import json

import pytest
import ranks
import sharded
import tiny
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageReader

from hmgan.train import checkpoint

SAVED = "checkpoints/000000002"


@pytest.fixture(scope="module")
def saved(shards, source, tmp_path_factory):
    """A folder in which two ranks have trained."""
    out = tmp_path_factory.mktemp("sharded")
    ranks.run(2, sharded.main, shards, source, out, *sharded.FSDP2)
    return out


def test_two_ranks_write_a_share_each_and_one_takes_both_bit_for_bit(saved, shards, source, tmp_path):
    files = sorted(path.name for path in (saved / SAVED).iterdir())
    assert files == ["share-00001-of-00002.safetensors", "share-00002-of-00002.safetensors", "state.json"]
    assert [path.name for path in (saved / "checkpoints").iterdir()] == ["000000002"]
    alone = tiny.make_trainer(sharded.experiment(shards, source, "train.seed=1"), tmp_path)
    alone.resume(saved / SAVED)
    whole, state = load_file(saved / "whole" / checkpoint.TENSORS), sharded.state(alone)
    assert state.keys() == whole.keys()
    assert all(torch.equal(x, whole[name]) for name, x in state.items())
    assert alone.step == 2


def test_no_share_holds_the_whole_of_what_is_divided(saved):
    whole = load_file(saved / "whole" / checkpoint.TENSORS)
    size = sum(x.nbytes for x in whole.values())
    for path in (saved / SAVED).glob("share-*"):
        assert sum(x.nbytes for x in load_file(path).values()) == pytest.approx(size / 2, rel=0.05)


def test_torchs_own_reader_finds_the_same_tensors(saved):
    found = HuggingFaceStorageReader(str(saved / SAVED)).read_metadata().state_dict_metadata
    whole = load_file(saved / "whole" / checkpoint.TENSORS)
    assert {name: (each.size, each.properties.dtype) for name, each in found.items()} == {
        name: (x.shape, x.dtype) for name, x in whole.items()
    }


@pytest.mark.parametrize("spoil", ["flip", "cut", "gone", "digest"])
def test_a_damaged_share_is_a_clear_error(spoil, saved, tmp_path):
    folder = tmp_path / "000000002"
    folder.mkdir()
    for path in (saved / SAVED).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    share = folder / "share-00002-of-00002.safetensors"
    content = share.read_bytes()
    if spoil == "gone":
        share.unlink()
    elif spoil == "digest":
        state = json.loads((folder / checkpoint.STATE).read_text())
        state["shares"][share.name] = "0" * 64
        (folder / checkpoint.STATE).write_text(json.dumps(state))
    else:
        share.write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if spoil == "flip" else b""))
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.load(folder, {})
    assert str(error.value) == f"checkpoint {folder} is damaged: its checksum does not match"


def test_an_export_of_it_is_the_same_as_one_file_that_a_run_goes_on_with(saved, shards, source, tmp_path, capsys):
    assert tiny.command("export", saved / SAVED, tmp_path / "merged") == 0
    whole, merged = (load_file(folder / checkpoint.TENSORS) for folder in (saved / "whole", tmp_path / "merged"))
    assert merged.keys() == whole.keys()
    assert all(torch.equal(x, whole[name]) and x.dtype == whole[name].dtype for name, x in merged.items())
    alone = tiny.make_trainer(sharded.experiment(shards, source, "train.seed=1"), tmp_path)
    alone.resume(tmp_path / "merged")
    assert all(torch.equal(x, whole[name]) for name, x in sharded.state(alone).items())
    assert tiny.command("export", tmp_path / "merged", tmp_path / "again") == 2
    assert "is a checkpoint of whole tensors already" in capsys.readouterr().err
    assert tiny.command("export", saved / SAVED, tmp_path / "again", "--fp16") == 2
    assert "is exported as it is" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


REPLICAS = (*sharded.FSDP2, "compute.engine.dp_replicate_size=2", *sharded.LARGER)


@pytest.mark.slow
@ranks.NEEDS_DEEPSPEED
@pytest.mark.parametrize(
    ("world", "engine"),
    [(2, ["compute.engine=replicated"]), (2, ["compute.engine=zero2"]), (4, REPLICAS)],
    ids=["replicated", "zero2", "fsdp2-replicas"],
)
def test_every_engine_writes_shares_and_takes_them_again(world, engine, shards, source, tmp_path):
    ranks.run(world, sharded.main, shards, source, tmp_path, *engine)
    whole = load_file(tmp_path / "whole" / checkpoint.TENSORS)
    size = sum(x.nbytes for x in whole.values())
    written = [sum(x.nbytes for x in load_file(path).values()) for path in (tmp_path / SAVED).glob("share-*")]
    assert sum(written) == size  # each number once, whoever has it
    assert len(written) == world
