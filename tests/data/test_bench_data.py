"""The benchmark of readers compares like with like: the same bytes in every form, all of them read by every reader."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path
from types import ModuleType

import pytest
from tiny_pictures import png

SCRIPTS = Path(__file__).parents[2] / "scripts"
IMAGES = 30


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("bench_data_readers")


@pytest.fixture
def sets(readers, tmp_path):
    return importlib.import_module("bench_data_sets").make(tmp_path / "sets", 16, IMAGES, None)


def test_all_forms_hold_the_same_bytes(readers, sets):
    files = sorted(path.read_bytes() for path in sets.files.rglob("*.jpg"))
    assert files == sorted(content for content, _ in readers.jpegs(sets.index()))
    assert len(set(files)) == IMAGES


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset never closes its files
def test_every_reader_reads_every_image(readers, sets):
    each = [
        readers.limit(sets),
        readers.ours(sets),
        readers.folder_of_files(sets, readers.pillow, "Pillow"),
        readers.folder_of_files(sets, readers.fast, "simplejpeg"),
        readers.webdataset_reader(sets, None, "webdataset"),
        readers.webdataset_reader(sets, readers.fast, "webdataset, simplejpeg"),
    ]
    for reader in each:
        assert reader.epoch() >= IMAGES, reader.name
        assert reader.epoch() >= IMAGES, reader.name
    gc.collect()


def test_the_decoders_agree(readers, sets):
    content = next(sets.files.rglob("*.jpg")).read_bytes()
    assert abs(readers.fast(content).astype(int) - readers.pillow(content)).max() <= 3
    assert (readers.pillow(png(readers.fast(content))) == readers.fast(content)).all()


def test_the_first_epoch_from_a_store_is_mixed_in_six_windows(readers, sets, tmp_path, monkeypatch):
    asked, order = [], readers.ShardSet.order

    def record(self, **how):
        asked.append(how["window"])
        return order(self, **how)

    monkeypatch.setattr(readers.ShardSet, "order", record)
    first, _ = readers.ours_from_store(str(sets.shards), tmp_path / "cache")
    first.before()
    assert first.epoch() >= IMAGES
    assert asked == [IMAGES // 6]
