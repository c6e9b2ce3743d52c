"""Requests that fail are tried again, and each wait is announced."""

from __future__ import annotations

import re

import pytest

from hmgan.data.store import stores
from hmgan.data.store.stores import Store
from hmgan.data.store.versions import Head
from hmgan.errors import UserError


class Flaky:
    """A client whose first requests fail."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.requests = 0

    def head(self, name: str) -> Head:
        self.requests += 1
        if self.errors:
            raise self.errors.pop(0)
        return Head(7, None)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(stores, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(stores, "LONGEST_PAUSE", 0.02)


def test_every_wait_is_announced_on_stderr_with_its_cause_and_its_length(capfd):
    client = Flaky(TimeoutError("key=hidden"), *[ConnectionError()] * 2)
    assert Store("s3://b/x", client, give_up=30).size("a.tar") == 7
    out, err = capfd.readouterr()
    first, *others = err.splitlines()
    assert re.fullmatch(r"s3://b/x/a\.tar: TimeoutError; trying again in 0\.\d+ seconds", first)
    assert len(others) == 2
    assert out == ""


def test_a_success_says_nothing(capfd):
    assert Store("s3://b/x", Flaky(), give_up=30).size("a.tar") == 7
    assert capfd.readouterr() == ("", "")


def test_three_refusals_are_enough_even_with_other_failures_between_them():
    client = Flaky(PermissionError(), OSError(), PermissionError(), OSError(), PermissionError(), OSError())
    with pytest.raises(UserError, match="the store refuses access"):
        Store("s3://b/x", client, give_up=30).size("a.tar")
    assert client.requests == 5


def test_a_pause_that_would_pass_the_limit_is_not_waited_for(capfd):
    client = Flaky(*[OSError()] * 9)
    with pytest.raises(UserError, match=r"s3://b/x/a\.tar: the store failed for 0 seconds \(OSError\)"):
        Store("s3://b/x", client, give_up=0.001).size("a.tar")
    assert client.requests == 1
    assert capfd.readouterr().err == ""


def test_what_is_missing_is_not_asked_for_twice():
    client = Flaky(FileNotFoundError())
    with pytest.raises(stores.MissingError):
        Store("s3://b/x", client, give_up=30).size("a.tar")
    assert client.requests == 1
