"""What keeps data from being read is told as what it is, never as damage of the data."""

from __future__ import annotations

import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny

from hmgan.data.named import open_data
from hmgan.data.shards import ShardSet
from hmgan.data.store import stores
from hmgan.data.store.folders import LocalFolder
from hmgan.data.store.stores import Store, open_store
from hmgan.data.store.versions import Head
from hmgan.errors import DamageError, UserError


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(stores, "GIVE_UP", 0.3)
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)


@pytest.fixture
def server(shards):
    """The URL of a packed set, and the names that the server forbids."""
    forbidden: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            content = (shards / name).read_bytes()
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = content[int(first) : int(last or len(content) - 1) + 1]
            self.send_response(403 if name in forbidden else 206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/set", forbidden
        served.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["index.json", "index.safetensors"])
def test_a_store_that_forbids_a_part_of_the_index_is_told_as_that_alone(name, server, capfd):
    url, forbidden = server
    forbidden.add(name)
    with pytest.raises(UserError, match=f"^{url}/{name}.*: the store refuses access \\(403 forbidden\\)") as told:
        open_data(url)
    assert "pack" not in str(told.value)
    assert "damaged" not in str(told.value)
    first, *others = capfd.readouterr().err.splitlines()
    assert "403 forbidden; trying again in" in first
    assert len(others) == 1


def test_a_store_that_forbids_nothing_is_read(server, shards):
    assert ShardSet(server[0]).digest == ShardSet(shards).digest


@pytest.mark.parametrize("words", [["data", "inspect"], ["data", "verify"], ["train", "hyper-mod-b", "-n", "--data"]])
def test_a_closed_port_is_told_at_once_and_never_with_advice_to_pack_again(words, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert tiny.command(*words, "http://127.0.0.1:9/x") == 2
    first, *_, last = capfd.readouterr().err.splitlines()
    assert first.startswith("http://127.0.0.1:9/x/index.json: no connection; trying again in")
    assert "the store failed for" in last
    assert "pack" not in last
    assert "damaged" not in last


@pytest.mark.parametrize(
    ("name", "value", "url"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "s3://bucket/x"),
        ("AWS_ENDPOINT_URL", "me:s3cr3t@minio:9000", "s3://bucket/x"),
        ("AWS_ENDPOINT_URL_S3", "minio", "s3://bucket/x"),
        ("AWS_ENDPOINT", "http://", "s3a://bucket/x"),
        ("AWS_ENDPOINT_URL", "", "s3://bucket/x"),
        ("AZURE_STORAGE_ENDPOINT", "azurite:10000", "az://container/x"),
    ],
)
def test_an_endpoint_that_is_no_url_is_named_by_its_variable_in_one_line(name, value, url, monkeypatch, capfd):
    monkeypatch.setenv(name, value)
    assert tiny.command("data", "inspect", url) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {name} must be a whole URL")
    assert "s3cr3t" not in line


@pytest.mark.parametrize("value", ["http://[::1]:9000", "https://minio:9000"])
def test_an_endpoint_that_is_one_and_switches_beside_it_are_taken(value, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "false")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", "of another store")
    assert open_store("s3://bucket/x").url == "s3://bucket/x"


@pytest.mark.parametrize(
    "url",
    ["s3:///x", "az://container/x", "gs://bucket/x", "https://example.org:99999/x", "ftp://nowhere.invalid/x"],
)
def test_a_client_that_cannot_be_opened_is_one_line_with_the_url(url, monkeypatch, capfd):
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/nowhere")
    assert tiny.command("data", "inspect", url) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"error: {url} cannot be opened; see to the URL")


def test_a_panic_of_a_client_is_a_line_and_is_not_tried_again(capfd):
    class Panic(BaseException):
        """As obstore raises it: no Exception."""

    class Client:
        def head(self, name: str) -> Head:
            raise Panic

    with pytest.raises(UserError, match=r"the store's client failed \(Panic\)"):
        Store("s3://b/x", Client(), give_up=30).size("a.tar")
    assert capfd.readouterr().err == ""


def test_ctrl_c_in_a_request_is_still_ctrl_c():
    class Client:
        def head(self, name: str) -> Head:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store("s3://b/x", Client(), give_up=30).size("a.tar")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EMFILE, "raise that limit with `ulimit -n"),
        (errno.ENFILE, "raise that limit with `ulimit -n"),
        (errno.EACCES, "see to the disk and its permissions"),
        (errno.EIO, "see to the disk and its permissions"),
    ],
)
def test_a_shard_that_cannot_be_opened_is_not_called_damaged(number, told, shards, monkeypatch):
    data = ShardSet(shards)

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=told) as error:
        data[0]
    assert not isinstance(error.value, DamageError)


def test_an_index_that_may_not_be_read_is_not_called_missing(shards, monkeypatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"index\.json cannot be read: Permission denied") as error:
        open_data(str(shards))
    assert "pack" not in str(error.value)


def test_a_shard_that_is_gone_is_damage(shards):
    data = ShardSet(shards)
    data.index = data.index.__class__(**{**data.index.__dict__, "folder": LocalFolder(Path("/nowhere"))})
    with pytest.raises(DamageError, match="it is missing; restore it"):
        data[0]
