"""Rebuild the emoji that come with the package (hmgan/assets/images/emoji*): colour, classes, and a licence each.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0 @lobehub/fluent-emoji-3d@1.1.0
    pip install ".[images]"
    python scripts/build_emoji.py --packages . --out hmgan/assets/images
    python scripts/build_emoji.py --packages . --source emoji-people      # a source's training set, packed
    hmgan pretrain pretrain-emoji-32 --data emoji-people

The three packages (152 MB) are drawings of Google's Noto, Twitter's Twemoji and Microsoft's Fluent. Each is scaled to
30 px on white, in a frame of 32. People, from the chest up, are for a source, without labels. Classes are ten kinds,
each of one shape (`emoji-kinds`), or Unicode's other eight categories, whose images have little in common (`emoji`). A
drawing that is held out is of an emoji that no house's drawing in the training set shows. N tiles of 32 pixels a side.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from contact_sheets import Tiles, pack_tiles, write_sets
from PIL import Image

SEED = 0  # of which emoji are held out
SIDE, DRAWN = 32, 30  # pixels, of a tile and of the drawing in it
MOST, HELD_OUT = 250, 1 / 3  # images of a class to train on; the share of its emoji that are for scores
PEOPLE = ("person", "person-role")
Parts = Mapping[str, tuple[str, ...]]  # class -> the categories or subcategories that it is made of
KINDS: Parts = {
    "faces": (
        *("face-affection", "face-concerned", "face-costume", "face-glasses", "face-hand", "face-hat", "face-negative"),
        *("face-neutral-skeptical", "face-sleepy", "face-smiling", "face-tongue", "face-unwell"),
    ),
    "hands": ("hand-fingers-open", "hand-fingers-partial", "hand-single-finger", "hand-fingers-closed", "hands"),
    "flags": ("country-flag", "flag", "subdivision-flag"),
    "signs": ("alphanum", "arrow", "av-symbol", "keycap", "religion", "zodiac"),
    "clocks": ("time",),
    "hearts": ("heart",),
    "animals": ("animal-mammal", "cat-face", "monkey-face"),
    "fruit": ("food-fruit", "food-vegetable"),
    "vehicles": ("transport-ground",),
    "buildings": ("place-building", "place-religious"),
}
CATEGORIES: Parts = {
    "activities": ("Activities",),
    "animals": ("Animals & Nature",),
    "flags": ("Flags",),
    "food": ("Food & Drink",),
    "objects": ("Objects",),
    "smileys": ("Smileys & Emotion",),
    "symbols": ("Symbols",),
    "travel": ("Travel & Places",),
}


class House(NamedTuple):
    """A package of drawings, by the name that `npm pack` gives it, and where they are in it."""

    file: str
    sha512: str  # npm's dist.integrity
    folder: str


NOTO = House(
    "emoji-datasource-google-16.0.0.tgz",
    "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
    "package/img/google/64",
)
TWEMOJI = House(
    "emoji-datasource-twitter-16.0.0.tgz",
    "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
    "package/img/twitter/64",
)
FLUENT = House(
    "lobehub-fluent-emoji-3d-1.1.0.tgz",
    "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    "package/assets",
)
HOUSES = (NOTO, TWEMOJI, FLUENT)


class Group(NamedTuple):
    """Where Unicode lists an emoji."""

    category: str
    subcategory: str


class Drawing(NamedTuple):
    """One house's drawing of one emoji."""

    code: str  # Unicode's code points, without those that choose a style
    group: Group
    tile: Tiles  # [32, 32, 3]


def members(packages: Path, house: House) -> Iterator[tuple[str, bytes]]:
    """Name -> content of a package's files. Raises RuntimeError if the package is not the one that is named here."""
    content = (packages / house.file).read_bytes()
    digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != house.sha512:
        raise RuntimeError(f"{house.file} has sha512 {digest}, not npm's {house.sha512}; download it again")
    with tarfile.open(fileobj=io.BytesIO(content)) as package:
        for member in package:
            if (file := package.extractfile(member)) is not None:
                yield member.name, file.read()


def short(code: str) -> str:
    """One spelling of a file name's code points for all houses: 0023-fe0f-20e3 is 23-20e3."""
    return "-".join(part.lstrip("0") for part in code.lower().split("-") if part != "fe0f")


def groups(emoji: list[dict[str, object]]) -> dict[str, Group]:
    """Code -> its group, skin tones included."""
    found = {}
    for entry in emoji:
        tones = entry.get("skin_variations", {})
        assert isinstance(tones, Mapping)
        for one in (entry, *tones.values()):
            found[short(str(one["unified"]))] = Group(str(entry["category"]), str(entry["subcategory"]))
    return found


def draw(content: bytes) -> Tiles:
    """[32, 32, 3]: a drawing on white."""
    with Image.open(io.BytesIO(content)) as image:
        drawn = image.convert("RGBA").resize((DRAWN, DRAWN), Image.Resampling.LANCZOS)
    tile = Image.new("RGBA", (SIDE, SIDE), "white")
    tile.alpha_composite(drawn, ((SIDE - DRAWN) // 2,) * 2)
    return np.asarray(tile.convert("RGB"))


def drawings(packages: Path) -> list[Drawing]:
    """By house and then by name; of equal ones, such as some flags, the first."""
    table = next(content for name, content in members(packages, NOTO) if name == "package/emoji.json")
    group_of, found, seen = groups(json.loads(table)), list[Drawing](), set[bytes]()
    for house in HOUSES:
        for name, content in sorted(members(packages, house)):
            path = PurePosixPath(name)
            code = short(path.stem)
            if str(path.parent) == house.folder and code in group_of:
                tile = draw(content)
                if tile.tobytes() not in seen:
                    found.append(Drawing(code, group_of[code], tile))
                seen.add(tile.tobytes())
    return found


def apart(found: list[Drawing]) -> tuple[Tiles, Tiles]:
    """Tiles to train on and held-out ones, MOST of each at the most, in a random order; no emoji is among both."""
    codes = sorted({one.code for one in found})
    rng = np.random.default_rng(SEED)
    held = {codes[i] for i in rng.permutation(len(codes))[: round(HELD_OUT * len(codes))]}
    order = [found[i] for i in rng.permutation(len(found))]
    sides = ([one.tile for one in order if (one.code in held) == other][:MOST] for other in (False, True))
    train, heldout = map(np.stack, sides)
    return train, heldout


def listed(found: list[Drawing], parts: tuple[str, ...]) -> list[Drawing]:
    """The drawings of some of Unicode's categories or subcategories."""
    return [one for one in found if not set(one.group).isdisjoint(parts)]


def side(found: list[Drawing], classes: Parts, which: int) -> dict[str, Tiles]:
    """Class -> the tiles of one side of `apart`."""
    return {name: apart(listed(found, parts))[which] for name, parts in classes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, default=Path(), help="the folder with the three files")
    parser.add_argument("--out", type=Path, default=Path("hmgan/assets/images"))
    parser.add_argument("--source", type=Path, metavar="FOLDER", help="pack a source's images there, and nothing else")
    options = parser.parse_args()
    found = drawings(options.packages)
    if options.source:
        count = pack_tiles(np.stack([one.tile for one in listed(found, PEOPLE)]), options.source)
        print(f"{count:,} images in {options.source}: hmgan pretrain pretrain-emoji-32 --data {options.source}")
        return
    sides = dict[str, Callable[[], dict[str, Tiles]]]()
    for name, classes in {"emoji": CATEGORIES, "emoji-kinds": KINDS}.items():
        sides |= {name: partial(side, found, classes, 0), f"{name}-heldout": partial(side, found, classes, 1)}
    write_sets(options.out, sides, None)


if __name__ == "__main__":
    main()
