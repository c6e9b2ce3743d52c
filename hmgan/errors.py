"""The exception that users see: one line that says what is wrong, what was got, and what to do."""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import re
import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pydantic takes longer to import than --help to print
    from pydantic import BaseModel, ValidationError


URL = re.compile(r"\b([a-zA-Z][\w+.-]*:)(//?)(?![/\s])([^\s\"]+)")
UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # controls, halves of characters, ends of lines and paragraphs
LISTED = 64  # names in a line, at most
TURNS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # of the writing's direction
KEY = re.compile(r"[^/?#@:]*(/[^?#]*)?")  # bucket or host, and a path with any signs
AZURE = re.compile(r"(?P<container>[a-z0-9$][a-z0-9-]{1,62}@)(?P<account>[a-z0-9]{3,24}\.[^@]*)", re.DOTALL)
PARTS = re.compile(r"([^/?#]*@)?(?P<plain>(\[[^]/]*\]|[^/?#@:]*)(:\d*)?(/[^?#@]*|[^\w/?#@]*))([?#][^@]*)?")


def redacted(text: str) -> str:
    """The text without users, passwords, queries and fragments of the URLs in it: any of them may be a secret.

    Of a URL where they cannot be told from its other parts (the keys of AWS hold slashes), only the scheme stays.
    """
    return URL.sub(_bare, text)


def _bare(url: re.Match[str]) -> str:
    scheme, slashes, rest = url.groups()
    if "://" not in rest and KEY.fullmatch(rest):
        return url[0]
    # Azure's Hadoop URLs have a container where others have a user: abfss://container@account.dfs.core.windows.net/path.
    if scheme.lower() in ("abfs:", "abfss:", "wasb:", "wasbs:") and (azure := AZURE.fullmatch(rest)):
        return scheme + slashes + azure["container"] + redacted(f"{scheme}//{azure['account']}").partition("//")[2]
    parts = None if "://" in rest else PARTS.fullmatch(rest)
    return scheme + slashes + (parts["plain"] if parts else "***")


def one_line(text: str) -> str:
    """Text that may come from data, as it can be shown anywhere: without line ends, controls and turned directions."""
    return "".join(" " if unicodedata.category(c) in UNSHOWN or c in TURNS else c for c in text).strip()


def some_of(names: Iterable[str], most: int = LISTED) -> str:
    """Names in a line that a person can read: the first ones, and of how many."""
    names = list(names)
    left_out = f", ... ({len(names):,} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + left_out


class UserError(ValueError):
    """A mistake that the user can correct. The command line prints its text and exits with code 2."""

    def __init__(self, text: str) -> None:
        super().__init__(one_line(redacted(text)))


class DamageError(UserError):
    """Images that are lost or damaged in storage, so that no retry helps; a run may leave a few of them out."""


def exhausted(error: BaseException) -> str | None:
    """One line for too many open files; None for any other error."""
    if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        return None
    what = f"{error.filename or 'a file'} cannot be opened: {os.strerror(error.errno)}"
    return f"{what}; raise that limit with `ulimit -n 4096`"


def refusal(error: OSError) -> str | None:
    """One line for a place that the system refuses to read or write; None where the error is about no place."""
    if (line := exhausted(error)) is not None:
        return line
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)  # those of a write have no file's name
    if error.errno is None or (error.filename is None and error.errno not in full):
        return None
    place = error.filename or "the place that is written to"
    return f"{place} cannot be used: {os.strerror(error.errno).lower()}; mend that, or give another place"


def lacking(error: BaseException) -> str | None:
    """One line for memory that Python, numpy or torch did not get; None for any other error."""
    text = str(error).partition("\n")[0]
    wanted = re.search(r"tried to allocate ([\d.]+ ?\w*)", text, re.IGNORECASE)
    # torch's own, without importing it: only CUDA's has a class.
    of_torch = isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError"
        or re.search(r"can't allocate memory|out of memory|Storage size calculation overflowed", text)
    )
    if not (isinstance(error, MemoryError) or of_torch):
        return None
    why = f"{wanted[1]} asked for at once" if wanted else text
    return f"not enough memory{f' ({why})' if why else ''}; make the batch or the images smaller"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no name is close."""
    close = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ";"


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that no component or entry of a kind has."""
    known = sorted(known)
    return UserError(f"no {kind} named {name!r}{nearest(name, known)} known: {some_of(known) or 'none'}")


def explain(error: ValidationError, model: type[BaseModel], where: str = "") -> str:
    """The first problem of a validation as one line: the path, what was got, and what to do."""
    problems = error.errors()
    problem = problems[0]
    loc = _without_members(model, problem["loc"])
    path = ".".join(str(part) for part in (where, *loc) if part != "")
    if problem["type"] == "extra_forbidden":
        table = model_at(model, *problem["loc"][:-1])
        known = list(table.model_fields) if table else []
        return (
            f"unknown key {path!r}{nearest(str(problem['loc'][-1]), known)} known: {', '.join(sorted(known)) or 'none'}"
        )
    if problem["type"] == "missing":
        return f"{path} is missing; set it, for example --set {path}=..."
    if problem["type"] == "value_error":
        return f"{path}: {problem['ctx']['error']}" if path else str(problem["ctx"]["error"])
    # A union has a problem per member: what it should be is any of them.
    wanted = [p["msg"].removeprefix("Input should be ") for p in problems if _without_members(model, p["loc"]) == loc]
    hint = nearest(str(problem["input"]), re.findall("'([^']+)'", " ".join(wanted))).rstrip(";")
    return f"{path} should be {' or '.join(dict.fromkeys(wanted))}, got {problem['input']!r}{hint}"


def _without_members(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """A problem's path without the name of a union's member, which pydantic puts after the field's."""
    kept: list[int | str] = []
    inner: type[BaseModel] | None = model
    for part in loc:
        if inner is None and isinstance(part, str):
            break
        kept.append(part)
        inner = model_at(inner, part)
    return tuple(kept)


def model_at(model: type[BaseModel] | None, *path: int | str) -> type[BaseModel] | None:
    """The model that the field at a path holds, bare, as a union's member or in a list; None for any other field."""
    from pydantic import BaseModel

    for part in path:
        if isinstance(part, int):
            continue
        if model is None or part not in model.model_fields:
            return None
        annotation = model.model_fields[part].annotation
        members = [annotation, *getattr(annotation, "__args__", ())]
        model = next((m for m in members if inspect.isclass(m) and issubclass(m, BaseModel)), None)
    return model
