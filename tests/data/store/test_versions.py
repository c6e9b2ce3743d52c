"""What is taken for a version of an object, and what is not."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from hmgan.data.store.versions import SETTLED, head_of

DAY = datetime(2024, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize("name", ["e_tag", "ETag", "etag", "blob_id"])
def test_a_tag_is_the_version_whatever_its_name(name):
    assert head_of({"size": 7, name: "abc", "last_modified": DAY}) == (7, "abc")


@pytest.mark.parametrize("name", ["last_modified", "LastModified", "mtime", "modified"])
def test_without_a_tag_it_is_the_time_of_the_last_change(name):
    assert head_of({"size": 7, name: DAY, "e_tag": None}) == (7, str(DAY.timestamp()))
    assert head_of({"size": 7, name: DAY.timestamp()}).version == str(DAY.timestamp())


@pytest.mark.parametrize(
    "told", [{}, {"last_modified": datetime.fromtimestamp(0, UTC)}, {"mtime": 0}, {"created": DAY}]
)
def test_what_a_change_may_leave_as_it_is_is_none(told):
    assert head_of({"size": 7, **told}) == (7, None)


def test_a_weak_tag_gives_way_to_the_time():
    assert head_of({"size": 7, "e_tag": 'W/"1"'}).version is None
    assert head_of({"size": 7, "e_tag": 'W/"1"', "last_modified": DAY}).version == str(DAY.timestamp())


def test_a_second_that_may_see_another_change_is_none():
    now = int(time.time())
    assert head_of({"size": 7, "mtime": float(now)}).version is None
    assert head_of({"size": 7, "mtime": now - SETTLED - 1}).version == str(now - SETTLED - 1)
    assert head_of({"size": 7, "mtime": now + 0.25}).version == str(now + 0.25)
