"""What is left out of a packed set: counted and named in lines, all of it in a file beside the set."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from hmgan.data.store.folders import Folder
from hmgan.errors import UserError, one_line

FILE = "left-out.jsonl"
SHOWN = 5  # names in a line
LeftOut = Mapping[str, Sequence[str]]  # names by the reason


def together(*parts: LeftOut) -> dict[str, list[str]]:
    """Those of several parts as one, each name once."""
    whole: dict[str, dict[str, None]] = {}
    for part in parts:
        for reason, names in part.items():
            whole.setdefault(reason, {}).update(dict.fromkeys(names))
    return {reason: list(names) for reason, names in whole.items()}


def tell(left_out: LeftOut, place: object, report: Callable[[str], None]) -> None:
    """A line per reason: how many, and the first few names."""
    for reason, names in left_out.items():
        some = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        report(one_line(f"passed over, {reason}: {len(names)} ({some}) in {place}"))


def files(left_out: LeftOut) -> dict[str, bytes]:
    """The file's name and content: a line of JSON for each, with its reason. No file for nothing."""
    entries = ({"name": name, "reason": reason} for reason, names in left_out.items() for name in names)
    content = "".join(json.dumps(entry) + "\n" for entry in entries).encode()
    return {FILE: content} if content else {}


def kept(folder: Folder) -> LeftOut:
    """What the file in a folder says; nothing where there is none. Raises UserError for another file of that name."""
    try:
        entries = [json.loads(line) for line in folder.read(FILE).splitlines()]
        return together(*({entry["reason"]: [entry["name"]]} for entry in entries))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{folder}/{FILE} is there and no file of hmgan's; move it away") from error


def judge(unlabelled: LeftOut, total: int, place: object, leave_out: bool) -> None:
    """Raises UserError, with their number and the first one, for images without a label unless they may be left out."""
    for reason, names in unlabelled.items():
        if not leave_out:
            raise UserError(
                f"{len(names)} of {total} images in {place} have {reason}, such as {names[0]}; "
                "label them, or leave them out with --leave-out-unlabelled"
            )
        if len(names) == total:
            raise UserError(f"all {total} images in {place} have {reason}, such as {names[0]}; label them")
