"""Data sets of tiny pictures, and an S3 server to read them from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import faulty_s3
import pytest
from tiny_pictures import pixels, png

from hmgan.data.store import stores


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder per class; image i of all of them has the pixels `pixels(i)`."""

    def write(name: str = "src", size: int = 8, **counts: int) -> Path:
        i = 0
        for label, count in (counts or {"cat": 5, "dog": 4}).items():
            (tmp_path / name / label).mkdir(parents=True)
            for _ in range(count):
                (tmp_path / name / label / f"{i:03d}.png").write_bytes(png(pixels(i, size)))
                i += 1
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a real S3 server; skips where none can be started."""
    running = faulty_s3.server(tmp_path_factory.mktemp("s3"))
    try:
        endpoint = running.__enter__()
    except RuntimeError as error:
        pytest.skip(str(error))  # the server is a program that a machine may not have, or not be able to start
    yield endpoint
    running.__exit__(None, None, None)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The endpoint, with credentials for it in the environment, and retries that do not wait long."""
    for name, value in faulty_s3.environment(s3_server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.002)
    monkeypatch.setattr(stores, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(stores, "GIVE_UP", 30.0)
    monkeypatch.setattr(stores, "TIMEOUT", 3.0)
    return s3_server


@pytest.fixture
def proxied(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[faulty_s3.Proxy]:
    """A proxy in front of the server that all further requests go through; it breaks nothing until told to."""
    with faulty_s3.proxy(s3, lambda method, path, start: None) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
        # What is still read ahead would go on asking a server that is gone, and say so in the tests that follow.
        faulty_s3.wait_for_prefetches()
