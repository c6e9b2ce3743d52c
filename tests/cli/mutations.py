"""Random changes of command lines and of files, as hypothesis strategies."""

from __future__ import annotations

import json
import struct
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import strategies as st

from hmgan.config.loading import load_experiment, to_table

# Nothing begins with a slash: what is written stays below the folder of the test.
ODD = [
    *["", " ", "-", "--", "-1", "0", "1", "3", "1.5", "nan", "inf", "-inf", "1e400", "1e-400", "99999999999999999999"],
    *[
        "65536",
        "100000000",
        "0x10",
        "true",
        "null",
        "[]",
        "{}",
        "[1",
        "a=b",
        "=",
        ",",
        ",,",
        "1,1",
        "5-1",
        "0-",
        "..",
        ".",
    ],
    *["nowhere", "nowhere/deep", "set", "source", "run", "images", "images.zip", "set/index.json", "blocked/x.png"],
    *[
        "x.foo",
        "mean",
        "[bold]",
        "[/]",
        "%s",
        "{0}",
        "$HOME",
        "~",
        "*",
        "?",
        "caf\u00e9",
        "\u4e2d",
        "\U0001f4a5",
        "\udcff",
    ],
    *[
        "a\nb",
        "a\tb",
        "\x1b[31m",
        "x" * 5000,
        "s3://",
        "ftp://h/x",
        "file://x",
        "https://u:p@h/x",
        "--help",
        "--dry-run",
    ],
    *["--resume", "latest", "auto", "ant", "fd,kd,prdc", "squeezenet", "fashion-32", "cpu:2", "cuda:1", "local", "8x4"],
]
VALUES: list[Any] = [
    *[
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        10**9,
        10**30,
        0.5,
        -0.5,
        float("nan"),
        float("inf"),
        1e308,
        "",
        " ",
        "x",
        "0",
    ],
    *[
        "ant",
        "a\nb",
        "\u0000",
        "..",
        "x" * 5000,
        [],
        [1],
        ["a", "a"],
        [[]],
        {},
        {"a": 1},
        {"name": "x"},
        [None],
        [0.5, "a"],
    ],
]
LETTERS = st.characters(codec="utf-8", exclude_characters="/\x00")


def paths(table: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested tables and lists; long lists by their first and last items."""
    inner = table.items() if isinstance(table, dict) else []
    if isinstance(table, list):
        inner = [(i, table[i]) for i in sorted({0, len(table) - 1}) if table]
    return [path for key, value in inner for path in [(*at, key), *paths(value, (*at, key))]]


SETTINGS = [".".join(map(str, path)) for path in paths(to_table(load_experiment("hyper-mod-c")))]


@st.composite
def lines(draw: Callable[..., Any], good: list[str]) -> list[str]:
    """A good command line, changed in one to three places."""
    words = list(good)
    for _ in range(draw(st.integers(1, 3))):
        at, kind = draw(st.integers(0, max(0, len(words) - 1))), draw(st.integers(0, 6))
        odd = draw(st.sampled_from(ODD))
        if kind == 0 and words:
            del words[at]
        elif kind == 1 and words:
            words.insert(at, words[at])
        elif kind == 2 and words:
            words[at] = odd
        elif kind == 3:
            words.insert(at, odd)
        elif kind == 4 and words:
            to = draw(st.integers(0, len(words) - 1))
            words[at], words[to] = words[to], words[at]
        elif kind == 5 and words:
            middle = draw(st.integers(0, len(words[at])))
            words[at] = words[at][:middle] + draw(LETTERS) + words[at][middle + draw(st.integers(0, 1)) :]
        else:
            words += ["--set", f"{draw(st.sampled_from(SETTINGS))}={odd}"]
    return words


@st.composite
def contents(draw: Callable[..., Any], content: bytes, name: str) -> bytes:
    """A file's content, changed as its format has it, or whatever its format is."""
    as_format = FORMATS.get(Path(name).suffix)
    if as_format is not None and draw(st.integers(0, 3)):
        try:
            return as_format(draw, content)
        except (ValueError, TypeError, IndexError, struct.error):  # what was to be written has no such value
            pass
    return spoilt(draw, content)


def spoilt(draw: Callable[..., Any], content: bytes) -> bytes:
    """Bytes, whatever they are."""
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.sampled_from([1, 2, 8, 64, 4096])))
    piece = content[start:end]
    random = draw(st.binary(min_size=1, max_size=16))
    return draw(
        st.sampled_from(
            [
                content[:start],
                content[:start] + content[end:],
                content[:start] + piece + content[start:],
                content[:start] + random + content[start + len(random) :],
                content[:start] + bytes(len(piece)) + content[end:],
                content[:start] + piece[::-1] + content[end:],
                content + random,
                b"",
                random,
            ]
        )
    )


def altered(draw: Callable[..., Any], table: Any) -> Any:
    """A nested table with one item replaced, removed or doubled."""
    path = draw(st.sampled_from(paths(table) or [()]))
    if not path:
        return draw(st.sampled_from(VALUES))
    holder = table
    for key in path[:-1]:
        holder = holder[key]
    kind = draw(st.integers(0, 4))
    if kind == 0:
        del holder[path[-1]]
    elif kind == 1 and isinstance(holder, list):
        holder.append(holder[path[-1]])
    elif kind == 1:
        holder[draw(st.sampled_from(["", "x", "name", "a.b", "extends"]))] = holder[path[-1]]
    else:
        holder[path[-1]] = draw(st.sampled_from(VALUES))
    return table


def as_json(draw: Callable[..., Any], content: bytes) -> bytes:
    return json.dumps(altered(draw, json.loads(content))).encode()


def as_json_lines(draw: Callable[..., Any], content: bytes) -> bytes:
    rows = [json.loads(line) for line in content.splitlines()]
    return "".join(json.dumps(row) + "\n" for row in altered(draw, rows)).encode()


def as_toml(draw: Callable[..., Any], content: bytes) -> bytes:
    return tomli_w.dumps(altered(draw, tomllib.loads(content.decode()))).encode()


def as_csv(draw: Callable[..., Any], content: bytes) -> bytes:
    rows = altered(draw, [line.split(",") for line in content.decode().splitlines()])
    return "\n".join(",".join(map(str, row)) for row in rows).encode()


def as_tensors(draw: Callable[..., Any], content: bytes) -> bytes:
    """The header of safetensors altered, or numbers that are none."""
    (size,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    if draw(st.booleans()):
        at = 4 * draw(st.integers(0, max(0, len(data) // 4 - 1)))
        number = draw(st.sampled_from([float("nan"), float("inf"), 1e30]))
        return content[: 8 + size] + data[:at] + struct.pack("<f", number) + data[at + 4 :]
    text = json.dumps(altered(draw, header)).encode()
    return struct.pack("<Q", len(text)) + text + data


FORMATS: dict[str, Callable[[Callable[..., Any], bytes], bytes]] = {
    ".json": as_json,
    ".jsonl": as_json_lines,
    ".toml": as_toml,
    ".csv": as_csv,
    ".safetensors": as_tensors,
}
