"""Recipes: from a data set's archive, as its owner distributes it, to labelled images, counted.

A recipe is a registry entry. Each of its splits says which files are its images, where their classes are found, and how
many there must be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hmgan.config.entry_schemas import Entry, schema
from hmgan.data.filenames import sorted_out
from hmgan.data.left_out import together
from hmgan.data.pack.archives import Archive, open_archive
from hmgan.data.pack.image_folders import ImageSource, Item, class_order
from hmgan.data.pack.label_files import attribute_column, matlab_vector
from hmgan.errors import UserError, nearest

Patterns = list[str]  # of paths, matched from the right: "train/cat/*.jpg"; * and ? stop at a slash
Bounds = Annotated[list[int], Field(min_length=2, max_length=2)]  # least and most
ReadFile = Callable[[str], bytes]  # a file beside the images, by its name
LabelOf = Callable[[str], str | None]  # of an image, by its path; None: not of the split
SHOWN = 3  # differences in an error


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Expected(_Model):
    """How many images a split has.

    Args:
        total: images.
        classes: how many of them there are.
        each: images of every class: the least and the most.
        counts: images of each class, by name.
    """

    total: int | None = None
    classes: int | None = None
    each: Bounds | None = None
    counts: dict[str, int] = {}

    def differences(self, found: Mapping[str, int]) -> list[str]:
        """Lists what is not as expected, as "what: expected ..., got ..."."""
        told = []
        if self.total not in (None, sum(found.values())):
            told.append(f"images: expected {self.total}, got {sum(found.values())}")
        if self.classes not in (None, len(found)):
            told.append(f"classes: expected {self.classes}, got {len(found)}")
        for label in class_order({*found, *self.counts}):
            got = found.get(label, 0)
            if self.counts and got != self.counts.get(label, 0):
                told.append(f"{label}: expected {self.counts.get(label, 0)}, got {got}")
            if self.each is not None and not self.each[0] <= got <= self.each[1]:
                told.append(f"{label}: expected {self.each[0]} to {self.each[1]}, got {got}")
        return told


class ByPath(_Model):
    """The class is in the path of an image."""

    files: ClassVar[Sequence[str]] = ()

    paths: dict[str, Patterns]
    expected: Expected

    @property
    def images(self) -> Patterns:
        return [pattern for patterns in self.paths.values() for pattern in patterns]

    def label_of(self, read: ReadFile) -> LabelOf:
        patterns = {label: _regex(patterns) for label, patterns in self.paths.items()}
        return lambda path: next((label for label, regex in patterns.items() if regex.search(path)), None)


class ByAttribute(_Model):
    """The class is in a column of CelebA's attribute list, a row per file name.

    Args:
        attributes: name of the list.
        column: of the list.
        values: value in the column -> class.
    """

    images: Patterns
    attributes: str
    column: str
    values: dict[str, str]
    expected: Expected

    @property
    def files(self) -> list[str]:
        return [self.attributes]

    def label_of(self, read: ReadFile) -> LabelOf:
        value_of = attribute_column(read(self.attributes), self.attributes, self.column)
        return lambda path: self.values.get(value_of.get(PurePosixPath(path).name, ""))


class ByNumber(_Model):
    """The class is in a vector of a MATLAB file, at the number in the image's name, counted from 1.

    Args:
        labels: file and variable of the classes' numbers.
        chosen: file and variable of the split's image numbers; left out: all images belong to it.
    """

    images: Patterns
    labels: Annotated[list[str], Field(min_length=2, max_length=2)]
    chosen: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    expected: Expected

    @property
    def files(self) -> list[str]:
        return [self.labels[0], *(self.chosen or [])[:1]]

    def label_of(self, read: ReadFile) -> LabelOf:
        labels = matlab_vector(read(self.labels[0]), *self.labels)
        chosen = None if self.chosen is None else set(matlab_vector(read(self.chosen[0]), *self.chosen))

        def label(path: str) -> str | None:
            number = int("".join(filter(str.isdigit, PurePosixPath(path).name)) or 0)
            if not 1 <= number <= len(labels) or (chosen is not None and number not in chosen):
                return None
            return str(labels[number - 1])

        return label


@schema("recipe")
class Recipe(Entry):
    """A registry entry.

    Args:
        archive: the file, as its owner calls it, and where it is to be had.
        split: the one that is packed unless another is asked for.
        resolution: pixels, those of the paper's experiments.
    """

    archive: str
    split: str
    resolution: int = 256
    splits: dict[str, ByPath | ByAttribute | ByNumber]

    @model_validator(mode="after")
    def _has_its_split(self) -> Recipe:
        if self.split not in self.splits:
            raise ValueError(f"split must be one of {', '.join(self.splits)}, got {self.split!r}")
        return self


def recipe_source(
    path: Path,
    *,
    name: str,
    recipe: Recipe,
    split: str | None = None,
    accept: Callable[[str], None] | None = None,
) -> ImageSource:
    """Opens the images of one split in an archive.

    Args:
        path: the archive, or the folder that it was unpacked into.
        name: of the recipe.
        split: of the recipe; left out: its own choice.
        accept: takes a line for every count that is not as expected; left out: a difference is an error.

    Raises: UserError for an unknown split, an archive that cannot be read, a file with labels that is missing, or
        counts that differ.
    """
    split = split or recipe.split
    if split not in recipe.splits:
        known = recipe.splits
        raise UserError(f"{name} has no split {split!r}{nearest(split, known)} its splits: {', '.join(known)}")
    chosen = recipe.splits[split]
    wanted = _Wanted([*chosen.images, *chosen.files])
    with ExitStack() as opened:
        archive = opened.enter_context(closing(open_archive(path, wanted)))
        label_of = chosen.label_of(partial(_beside, path, archive))
        items = []
        images, others = sorted_out(file for file in archive.names if PurePosixPath(file).name not in chosen.files)
        for file in images:
            if (label := label_of(file)) is None:
                wanted.others.append(file)
            else:
                items.append(Item(f"{label}/{PurePosixPath(file).name}", label, partial(archive.read, file)))
        if not items:
            raise UserError(
                f"{path} holds no images of {name}, split {split}, which are called "
                f"{' or '.join(chosen.images[:SHOWN])}; give {recipe.archive}"
            )
        counts = Counter(item.label for item in items)
        _judge(chosen.expected.differences(counts), f"{path} by the recipe {name}, split {split}", accept)
        more, more_others = sorted_out(wanted.others)
        passed_over = together(others, more_others, {f"not of the split {split}": more} if more else {})
        return ImageSource(items, class_order(counts), opened.pop_all().close, passed_over)


class _Wanted:
    """Whether a path ends in one of the patterns; `others` are those asked for that do not."""

    def __init__(self, patterns: Patterns) -> None:
        self._regex = _regex(patterns)
        self.others: list[str] = []

    def __call__(self, file: str) -> bool:
        if self._regex.search(file):
            return True
        self.others.append(file)
        return False


def _judge(differences: Sequence[str], what: str, accept: Callable[[str], None] | None) -> None:
    if accept is not None:
        for difference in differences:
            accept(f"{what}: {difference}")
    elif differences:
        more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise UserError(
            f"{what}: {'; '.join(differences[:SHOWN])}{more}; "
            "get the archive anew, or pass --accept-counts to pack what is there"
        )


def _beside(path: Path, archive: Archive, name: str) -> bytes:
    """A file of the archive, or of the folder that the archive is in."""
    for file in archive.names:
        if PurePosixPath(file).name == name:
            return archive.read(file)
    try:
        return (path.parent / name).read_bytes()
    except OSError as error:
        raise UserError(f"{name} is neither in {path} nor beside it: {error.strerror}; put it there") from error


def _regex(patterns: Patterns) -> re.Pattern[str]:
    """Finds the paths that end in one of the patterns."""
    return re.compile("(?:^|/)(?:" + "|".join(map(_translated, patterns)) + ")$")


def _translated(pattern: str) -> str:
    tokens = re.findall(r"\[[^]]+\]|.", pattern)
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(token, token if len(token) > 1 else re.escape(token)) for token in tokens)
