"""Images by name: registry entries, which are packed on first use, and folders or URLs of shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hmgan.config import entries
from hmgan.config.loading import data_of
from hmgan.config.settings import Data
from hmgan.data.images import Images, Shown
from hmgan.data.mixture import Mixture
from hmgan.data.pack.embedded import embedded
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.data.store.cache import locked
from hmgan.errors import UserError, some_of, unknown
from hmgan.files import cache_folder
from hmgan.urls import is_url

Report = Callable[[str], None]


def open_images(data: Data | None, *, labelled: bool = True, group: int = 0, report: Report = print) -> Images:
    """The images that an experiment names.

    Args:
        labelled: whether they are used with their labels. Without, sets of other classes can be one.
        group: images of one class in a row of stratified batches; 0: batches are not stratified.

    Raises: UserError for nothing, a set that is not packed, or sets that do not go together.
    """
    if data is None:
        raise UserError("data is missing; give --data a folder that hmgan pack wrote, or a name of hmgan list datasets")
    if data.whole and (mix := _mix(data.sources[0])) is not None:
        data = mix
    images = _mixed(data, labelled, group, report)
    return images if labelled else images.unlabelled()


def open_training(data: Data | None, *, labelled: bool, group: int = 0, report: Report = print) -> Shown:
    """As `open_images`, and shards without an index where `data.reader` says so."""
    if data is None or data.reader == "index":
        return open_images(data, labelled=labelled, group=group, report=report)
    from hmgan.data.streamed import Streamed  # here, because webdataset takes a while to import

    if labelled and not data.classes:
        raise UserError(
            'data.reader = "webdataset" has no index to take the names of the classes from; name the classes 0, 1, ... '
            "in data.classes"
        )
    streamed = Streamed(
        data.sources, classes=data.classes, buffer=data.buffer, background=data.background, report=report
    )
    return streamed if labelled else streamed.unlabelled()


def open_data(name: str | None, report: Report = print) -> Images:
    """All images behind a registry name, path or URL. Raises UserError for neither, or a folder that is not packed."""
    return open_images(data_of(name), report=report)


def scored_against(data: Data | None, instead: str | None = None) -> Data | None:
    """The images that scores of a training on `data` are against.

    These are `instead`, or else what a registry entry sets apart, or else the training images: all of those of the
    classes trained on, without shares or limits per class.
    """
    if data is None:
        return data_of(instead)
    if data.reader != "index" and instead is None:
        raise UserError(
            f"scores need images with an index, and {data} has none; run `hmgan index` on it, or name others as "
            "evaluation.data"
        )
    if data.whole and (mix := _mix(data.sources[0])) is not None and instead is None:
        if held_out(data.sources[0]) != data.sources[0]:
            return data_of(held_out(data.sources[0]))
        data = mix
    sources = [held_out(source) for source in data.sources] if instead is None else [instead]
    return data_of({"sources": list(dict.fromkeys(sources)), "classes": data.classes})


def beside(data: Data | None, *, labelled: bool) -> Images | None:
    """The training images, for scores to be set beside; None where they have no index."""
    return open_images(data, labelled=labelled) if data is not None and data.reader == "index" else None


def held_out(name: str) -> str:
    """The images that a registry entry sets apart for scores, or these."""
    return str(_entry(name).get("heldout", name))


def is_here(name: str) -> bool:
    """Whether a data set of this name may be opened: a registry entry, a URL, or a path that exists."""
    return is_url(name) or name in entries.entries("dataset") or Path(name).exists()


def _entry(name: str) -> Mapping[str, Any]:
    """The data set's entry in the registry; empty for a path or URL."""
    return entries.entry("dataset", name) if name in entries.entries("dataset") else {}


def _mixed(data: Data, labelled: bool, group: int, report: Report) -> Images:
    sets = [_opened(name, report) for name in data.sources]
    if data.whole and not group:
        return sets[0]
    classes = data.classes or _all_classes(sets, labelled)
    if missing := [name for name in classes if not any(name in each.classes for each in sets)]:
        known = some_of(dict.fromkeys(name for each in sets for name in each.classes))
        raise UserError(f"no class {missing[0]!r} in {data}; its classes: {known}")
    parts = [_part(each, classes, data.per_class) for each in sets]
    if len(parts) == 1 and not data.balance and not group:
        return parts[0]
    return Mixture(parts, classes=classes, weights=data.weights, balance=data.balance, group=group)


def _all_classes(sets: Sequence[ShardSet], labelled: bool) -> Sequence[str]:
    """The first set's, which all must have if labels are used; without labels, those of any set."""
    if not labelled:
        return list(dict.fromkeys(name for each in sets for name in each.classes))
    first = sets[0]
    for each in sets:
        if odd := sorted(set(first.classes) ^ set(each.classes)):
            raise UserError(
                f"the classes of data that is mixed must agree, got {odd[0]!r} in one of {first.index.folder} and "
                f"{each.index.folder} only; name all that are wanted in data.classes"
            )
    return first.classes


def _part(whole: ShardSet, classes: Sequence[str], per_class: int) -> ShardSet:
    """A set reduced to those of the wanted classes that it has."""
    own = [name for name in classes if name in whole.classes]
    if not own:
        raise UserError(
            f"{whole.index.folder} has none of the classes {some_of(classes)}; leave it out of data, "
            f"or name one of {some_of(whole.classes)}"
        )
    return ShardSet(whole.index, classes=own, per_class=per_class)


def _mix(name: str) -> Data | None:
    """What a registry entry mixes, with paths relative to the entry resolved."""
    if (mix := data_of(_entry(name).get("mix"))) is None:
        return None
    folder = entries.place("dataset", name).parent
    known = entries.entries("dataset")
    sources = [source if source in known or is_url(source) else str(folder / source) for source in mix.sources]
    return mix.model_copy(update={"sources": sources})


def _opened(name: str, report: Report) -> ShardSet:
    if table := _entry(name):
        if "mix" in table:
            raise UserError(
                f"data set {name!r} is a mixture, with settings of its own; give it alone and without others, "
                "or name its sources"
            )
        if "path" in table:
            return ShardSet(entries.place("dataset", name).parent / table["path"])
        return ShardSet(_packed(name, report))
    if is_url(name):
        return ShardSet(name)
    if not Path(name).exists() and "/" not in name:
        raise unknown("dataset", name, entries.entries("dataset"))
    return ShardSet(name)


def _packed(name: str, report: Report) -> Path:
    """Packs an embedded set once per machine; the folder is named after what goes in."""
    table = _entry(name)
    images = embedded(table["embedded"])
    digest = hashlib.sha256(repr(sorted(table.items())).encode())
    for path in sorted(images.iterdir()):
        digest.update(path.read_bytes())
    out = cache_folder() / "data" / f"{name}-{digest.hexdigest()[:12]}"
    out.parent.mkdir(parents=True, exist_ok=True)
    with locked(out.with_suffix(".lock")):  # several processes may need it at once
        if not out.exists():
            pack(images, out, pad=table.get("pad", 0), name=name, report=report)
    return out
