"""One thread, a cache of the test run's own, and the tiny world."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny
import torch

from hmgan.config import entries

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: kernels run in Python


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write golden losses anew instead of comparing with them")


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed images: 8 px, three classes of 12. Read only."""
    return tiny.write_shards(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved source, 8 px, with its discriminator. Read only."""
    return tiny.write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _alone(_cache: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing of a test reaches another one, or the user's own files."""
    monkeypatch.setenv("HMGAN_CACHE", str(_cache))
    monkeypatch.setattr(entries, "_extra", [])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
