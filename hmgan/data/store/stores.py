"""Object stores behind URLs. Failed requests are retried here, and nowhere below or above."""

from __future__ import annotations

import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import tenacity

from hmgan.data.store.versions import Head, head_of
from hmgan.errors import UserError
from hmgan.urls import checked

# What obstore reads, and how its variables begin.
VENDORS = (
    dict.fromkeys(("s3", "s3a"), "AWS") | {"gs": "GOOGLE"} | dict.fromkeys(("az", "azure", "abfs", "abfss"), "AZURE")
)
NATIVE = (*VENDORS, "http", "https")
BLOCK = 1 << 22  # bytes per Range request: what a broken transfer costs at most
TIMEOUT, CONNECT_TIMEOUT = 30.0, 5.0  # seconds for a whole request, and for its connection
GIVE_UP = 120.0  # seconds without a success
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
REFUSALS = 3  # credentials that renew themselves may be a moment late; more tries can lock an account
KINDS = {"Connect": "no connection", "Timeout": "no answer in time", "403": "403 forbidden", "401": "401 unauthorized"}
CREDENTIAL_CODES = ("ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "AccessDenied")

T = TypeVar("T")
Content = bytes | memoryview  # memory that a client has filled is not copied


class MissingError(Exception):
    """There is no object of that name."""


class _RefusedError(Exception):
    """The store does not accept the credentials, or they do not allow this."""


class Client(Protocol):
    """One store's requests, each tried once. Raises whatever its library raises, but FileNotFoundError for nothing."""

    def head(self, name: str) -> Head: ...
    def get(self, name: str, start: int, stop: int) -> Content: ...
    def put(self, name: str, content: bytes) -> None: ...
    def names(self) -> list[str]: ...  # of the folder itself, without its subfolders


class Store:
    """A folder in an object store, by its URL.

    Raises, in every method: MissingError; UserError, without secrets, once the store fails for `give_up` seconds or
        refuses the credentials.
    """

    def __init__(self, url: str, client: Client, give_up: float) -> None:
        self.url, self._client, self._give_up = url.rstrip("/"), client, give_up
        self._random = random.Random()  # not the global stream, which belongs to the run

    def head(self, name: str) -> Head:
        return self._tried(lambda: self._client.head(name), name)

    def size(self, name: str) -> int:
        return self.head(name).size

    def get(self, name: str, start: int, stop: int) -> Content:
        """Exactly the bytes from `start` to `stop`."""
        return self._tried(partial(self._whole, name, start, stop), f"{name} at byte {start}")

    def blocks(self, name: str, size: int) -> Iterator[Content]:
        """All `size` bytes of an object, a BLOCK at a time."""
        for start in range(0, size, BLOCK):
            yield self.get(name, start, min(start + BLOCK, size))

    def put(self, name: str, content: bytes) -> None:
        self._tried(lambda: self._client.put(name, content), name)

    def names(self) -> list[str]:
        """Of its files; an empty list where there is no such folder, since stores have no empty ones."""
        try:
            return sorted(self._tried(self._client.names, ""))
        except MissingError:
            return []

    def _whole(self, name: str, start: int, stop: int) -> Content:
        content = self._client.get(name, start, stop)
        if len(content) != stop - start:
            raise ConnectionError(f"body cut off after {len(content)} of {stop - start} bytes")
        return content

    def _tried(self, action: Callable[[], T], what: str) -> T:
        pause, refusals = tenacity.wait_exponential(FIRST_PAUSE, LONGEST_PAUSE), count(1)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(ConnectionError)
            | tenacity.retry_if_exception(lambda error: isinstance(error, _RefusedError) and next(refusals) < REFUSALS),
            stop=tenacity.stop_before_delay(self._give_up),
            # Jitter: clients that failed together must not come back together.
            wait=lambda state: pause(state) * self._random.uniform(0.5, 1),
            before_sleep=partial(_announce, f"{self.url}/{what}"),
            reraise=True,
        )
        try:
            return attempts(_sorted_out()(action))
        except _RefusedError as error:
            told = f"refuses access ({error}); renew the credentials in the environment or allow them to read this"
        except ConnectionError as error:
            seconds = attempts.statistics["delay_since_first_attempt"]
            told = f"failed for {seconds:.0f} seconds ({error}); see whether it can be reached"
        raise UserError(f"{self.url}/{what}: the store {told}, then resume")


def _announce(what: str, state: tenacity.RetryCallState) -> None:
    assert state.outcome is not None
    # One write: threads must not mix their lines.
    sys.stderr.write(f"{what}: {state.outcome.exception()}; trying again in {state.upcoming_sleep:.2g} seconds\n")


@contextmanager
def _sorted_out() -> Iterator[None]:
    """Turns what clients raise into MissingError, _RefusedError or ConnectionError, in words of its own.

    The clients' words hold the request and the server's answer, and with them key names and signatures.
    """
    try:
        yield
    except FileNotFoundError:
        raise MissingError from None
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if not isinstance(error, Exception):  # a panic of obstore's
            raise UserError(f"the store's client failed ({type(error).__name__}); see to its variables") from None
        text = f"{type(error).__name__} {error}"
        code = re.search(r"<Code>(\w{1,60})</Code>", text)
        status = re.search(r"status code: ([1-5]\d\d)\b", text)
        kind = re.search(
            r"kind: (Connect|Timeout|Request|Interrupted|Decode|Body)\b|(body cut off after [\d of]+)", text
        )
        words = [KINDS.get(word, word) for word in (f[f.lastindex or 0] for f in (status, code, kind) if f)]
        reason = " ".join(words) or type(error).__name__
        refused = isinstance(error, PermissionError) or (status and status[1] in ("401", "403"))
        if refused or (code and code[1] in CREDENTIAL_CODES):
            raise _RefusedError(reason) from None
        raise ConnectionError(reason) from None


class Native:
    """obstore: S3, Google Cloud, Azure and HTTP, with their standard credential chains."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            from obstore.store import from_url
        except ImportError:
            raise UserError(f"reading {url} needs obstore; install hmgan[s3]") from None
        options: Any = {"allow_http": True, "timeout": f"{timeout}s", "connect_timeout": f"{CONNECT_TIMEOUT}s"}
        try:
            self._store: Any = from_url(url, client_options=options, retry_config={"max_retries": 0})
        except Exception:  # in words that may hold what its variables say
            vendor = VENDORS.get(urlsplit(url).scheme)
            variables = f", and the variables {vendor}_..." if vendor else ""
            raise UserError(f"{url} cannot be opened; see to the URL{variables}") from None

    def head(self, name: str) -> Head:
        return head_of(self._store.head(name))

    def get(self, name: str, start: int, stop: int) -> Content:
        return memoryview(self._store.get_range(name, start=start, end=stop))

    def put(self, name: str, content: bytes) -> None:
        self._store.put(name, content, mode="overwrite")

    def names(self) -> list[str]:
        return [entry["path"] for entry in self._store.list_with_delimiter(None)["objects"]]


class Fsspec:
    """Every other URL that fsspec knows."""

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"{url} cannot be opened: {error}") from None
        except Exception:  # of a client that connects at once, in words of its own
            raise UserError(f"{url} cannot be opened; see to the URL, and whether it can be reached") from None

    def head(self, name: str) -> Head:
        path = f"{self._root}/{name}"
        self._files.invalidate_cache(path)  # of what it knew when it listed the folder
        head = head_of(told := self._files.info(path))
        if head.version is None:
            with suppress(RuntimeError):  # of clients that know no times
                return head_of({**told, "modified": self._files.modified(path)})
        return head

    def get(self, name: str, start: int, stop: int) -> Content:
        return bytes(self._files.cat_file(f"{self._root}/{name}", start=start, end=stop))

    def put(self, name: str, content: bytes) -> None:
        self._files.makedirs(self._root, exist_ok=True)
        self._files.pipe_file(f"{self._root}/{name}", content)

    def names(self) -> list[str]:
        entries = self._files.ls(self._root, detail=True)
        return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]


def open_store(url: str) -> Store:
    """The store behind a URL. Raises UserError if no library here can read it."""
    scheme = urlsplit(checked(url)).scheme
    endpoint = re.compile(rf"{VENDORS.get(scheme)}_(?!USE_)(\w+_)?(ENDPOINT|ENDPOINT_URL(_S3)?|BASE_URL)")
    for name, value in os.environ.items():
        if endpoint.fullmatch(name) and not re.match(r"https?://[\w\[]", value):  # on which the client panics
            raise UserError(
                f"{name} must be a whole URL, with http:// or https:// and a host, got another value; set it anew"
            )
    return Store(url, Native(url, TIMEOUT) if scheme in NATIVE else Fsspec(url), GIVE_UP)
