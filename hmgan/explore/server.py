"""The server of the page. Of the standard library: a handful of routes to one reader need no framework.

It hands out files that are named here, the models' description, and images by their address. It opens no path that a
request names, answers no other host's name than those it was started for, and takes GET and HEAD alone.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from urllib.parse import urlsplit

from hmgan.errors import UserError
from hmgan.explore.address import read
from hmgan.explore.gallery import Gallery
from hmgan.explore.turns import LeftError

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/triangle.js": ("triangle.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
LOCAL = ("localhost", "127.0.0.1", "[::1]")
FOR_EVER, NEVER = "public, max-age=31536000, immutable", "no-cache"
SILENCE = 30.0  # seconds that a connection may say nothing


class Server(ThreadingHTTPServer):
    """Serves a gallery at an address and, by default, to this machine alone."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, gallery: Gallery, host: str = "127.0.0.1", port: int = 0, names: Sequence[str] = ()) -> None:
        self.gallery = gallery
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        own = f"[{host}]" if ":" in host else host
        self.hosts = frozenset(name.lower() for name in (*LOCAL, own, *names))
        folder = resources.files("hmgan.explore")
        self.pages = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host = str(self.server_address[0])
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"http://{shown}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hmgan", ""
    timeout = SILENCE

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").lower()
        # Another name that leads here is a page of somebody else's that reads through this browser.
        if (host if host.endswith("]") else host.rpartition(":")[0] or host) not in self.server.hosts:
            return self.refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this server is {self.server.url}")
        url = urlsplit(self.path)
        if url.path in self.server.pages and not url.query:
            return self.answer(*self.server.pages[url.path], NEVER)
        if url.path == "/model" and not url.query:
            described = json.dumps(self.server.gallery.described()).encode()
            return self.answer(described, "application/json", NEVER)
        if url.path != "/image":
            return self.refuse(HTTPStatus.NOT_FOUND, "there are /, /model and /image?model=...&classes=...&seeds=...")
        try:
            png = self.server.gallery.png(read(url.query), self.left)
        except UserError as error:
            return self.refuse(HTTPStatus.BAD_REQUEST, str(error))
        except LeftError:
            return self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "newer images were asked for")
        return self.answer(png, "image/png", FOR_EVER)

    do_HEAD = do_GET

    def left(self) -> bool:
        """Whether the reader has closed the connection, as browsers do when they want something newer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def answer(self, body: bytes, kind: str, cache: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        try:
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": cache, **HEADERS}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True

    def refuse(self, status: HTTPStatus, text: str) -> None:
        self.answer(f"{text}\n".encode(), "text/plain; charset=utf-8", NEVER, status)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a page asks for hundreds of images."""
