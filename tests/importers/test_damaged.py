"""Damaged and hostile files: one line, no code run, nothing left, and no more memory than the file accounts for."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

from hmgan.errors import UserError
from hmgan.importers.convert import import_checkpoint
from hmgan.importers.pickled.content import read_content
from hmgan.importers.pickled.nodes import Call, UnreadableError
from importers import seeds
from importers.mutations import MUTATIONS, trap

FILES = seeds.files()
FIXED = 64 << 20  # bytes that the operations of a small file may make


def refusal_of(path, out):
    """What an import says against a file; nothing where it becomes a source."""
    try:
        import_checkpoint(path, out, report=lambda report: None)
    except UserError as error:
        return str(error)
    return ""


def content_of(data):
    return read_content(memoryview(data))


@pytest.mark.parametrize("mutation", MUTATIONS)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_source_or_one_line(tmp_path, name, mutation):
    path, out, canary = (tmp_path / part for part in ("file", "out", "canary"))
    for index in range(2):
        path.write_bytes(MUTATIONS[mutation](FILES[name], random.Random(f"{name} {index}"), canary))
        refusal = refusal_of(path, out / str(index))
        assert "\n" not in refusal
        assert (out / str(index)).exists() is not bool(refusal)
        assert not canary.exists()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\x80\x04" + b"\x8e" + struct.pack("<Q", 1 << 62) + b".", "is cut short"),
        (b"\x80\x04" + b"(" * 2000 + b".", "nests more than 1000 deep"),
        (b"\x80\x04h\x05.", "recalls memo 5"),
        (b"\x80\x04}(]K\x01u.", "neither a short text nor an integer"),
        (b"\x80\x04i.", "opcode 0x69"),
        (b"\x80\x04" + b"N0" * 9 + b".", "opcode 0x30"),
        (b"\x80\x04" + b"]" * 400_000 + b".", "more operations than a checkpoint of its size"),
        (b"\x80\x04N", "is cut short"),
        (b"\x80\x04NN.", "ends within an object"),
        (b"\x80\x01N.", "of another kind"),
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "is cut short"),
    ],
)
def test_a_pickle_that_is_none_says_why(data, problem):
    with pytest.raises(UnreadableError, match=problem):
        content_of(data)


def test_a_call_is_kept_as_a_node(tmp_path):
    content = content_of(b"\x80\x04" + trap(tmp_path / "sprung") + b".")
    assert isinstance(content.root, Call)
    assert [str(name) for name in content.unknown] == ["os.mkdir"]
    assert not (tmp_path / "sprung").exists()


def test_a_stride_of_zero_is_no_way_to_gigabytes():
    content = content_of(pickle.dumps({"w": torch.zeros(1).expand(1 << 34)}, protocol=4))
    view = content.view(content.root["w"])
    assert view.shape == (1 << 34,)
    with pytest.raises(UnreadableError, match="larger than the file"):
        view.tensor(content.budget)


def test_a_view_beyond_its_storage_is_refused():
    data = pickle.dumps({"w": torch.arange(300.0)}, protocol=4)
    assert data.count(struct.pack("<H", 300)) > 1
    content = content_of(data.replace(b"M" + struct.pack("<H", 300), b"M" + struct.pack("<H", 301)))
    with pytest.raises(UnreadableError, match=r"beyond its storage|another size"):
        content.view(content.root["w"])


def test_arrays_of_objects_are_refused():
    content = content_of(pickle.dumps(np.array([{}], dtype=object), protocol=4))
    with pytest.raises(UnreadableError, match=r"dtype 'O8', which is no plain number|where bytes should be"):
        content.view(content.root)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_compressed_zips_are_refused_unopened(compression):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("a/data.pkl", bytes(1 << 24))
    with pytest.raises(UnreadableError, match="compressed or encrypted entries"):
        content_of(file.getvalue())


@pytest.mark.parametrize(("first", "second"), [("a/data.pkl", "b/data.pkl"), ("a/x", "a/x"), ("data.pkl", "a/x")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zips_of_two_roots_or_double_entries_are_refused(first, second):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(first, b"\x80\x02N.")
        made.writestr(second, b"\x80\x02N.")
    with pytest.raises(UnreadableError, match="entries are double, or have no one root"):
        content_of(file.getvalue())


@pytest.mark.parametrize("letter", [b"]", b"}", b")", b"N", b"K\x01", b"]\x94"])
def test_memory_stays_within_four_times_the_file(letter):
    data = b"\x80\x04" + letter * (2_000_000 // len(letter)) + b"."
    tracemalloc.start()
    with pytest.raises(UnreadableError):
        content_of(data)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < FIXED + 4 * len(data)


def test_a_whole_file_takes_at_most_four_times_its_size(tmp_path):
    tensors = {f"w{i}": torch.ones(512, 512) for i in range(16)}
    data = pickle.dumps(tensors, protocol=4)
    tracemalloc.start()
    content = content_of(data)
    read = [content.view(node).tensor(content.budget) for node in content.root.values()]
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(bool((tensor == 1).all()) for tensor in read)
    assert most < 4 * len(data)
