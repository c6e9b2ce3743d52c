from __future__ import annotations

import json
from collections import Counter
from functools import cache

import numpy as np
import pytest

from hmgan.data.decode import decode
from hmgan.data.pack.embedded import embedded, embedded_names
from hmgan.data.pack.kinds import open_source
from hmgan.data.pack.pack import pack
from hmgan.data.shards import ShardSet
from hmgan.errors import UserError

CLOSE = ("ankle-boot", "bag", "sandal", "sneaker")
DIGITS = tuple("0123456789")
TEN = (*CLOSE, "coat", "dress", "pullover", "shirt", "t-shirt", "trouser")
EMOJI = ("activities", "animals", "flags", "food", "objects", "smileys", "symbols", "travel")
KINDS = ("animals", "buildings", "clocks", "faces", "flags", "fruit", "hands", "hearts", "signs", "vehicles")
WANTED = {
    "fashion-source": {"all": 6000},
    "fashion-close": dict.fromkeys(CLOSE, 500),
    "fashion-close-heldout": dict.fromkeys(CLOSE, 500),
    "digits": dict.fromkeys(DIGITS, 400),
    "digits-heldout": dict.fromkeys(DIGITS, 500),
    "fashion-ten": dict.fromkeys(TEN, 400),
    "fashion-ten-heldout": dict.fromkeys(TEN, 400),
    "emoji": dict.fromkeys(EMOJI, 250) | {"activities": 171},
    "emoji-heldout": dict(zip(EMOJI, (84, 159, 250, 131, 250, 168, 232, 219), strict=True)),
    "emoji-kinds": dict(zip(KINDS, (156, 66, 63, 234, 250, 77, 250, 51, 250, 99), strict=True)),
    "emoji-kinds-heldout": dict(zip(KINDS, (77, 33, 30, 117, 250, 37, 250, 24, 125, 51), strict=True)),
}


@cache
def tiles(name: str) -> frozenset[bytes]:
    return frozenset(np.asarray(decode(item.read())).tobytes() for item in open_source(embedded(name)).items)


@pytest.mark.parametrize("name", WANTED)
def test_every_set_has_its_classes_and_counts(name):
    assert Counter(item.label for item in open_source(embedded(name)).items) == WANTED[name]
    assert set(embedded_names()) == set(WANTED)


@pytest.mark.parametrize("name", ["fashion-close", "fashion-ten", "digits", "emoji", "emoji-kinds"])
def test_held_out_images_are_other_images(name):
    training, held_out = tiles(name), tiles(f"{name}-heldout")
    assert len(held_out) > 0.99 * sum(WANTED[f"{name}-heldout"].values())
    assert not training & held_out


def test_shoes_of_ten_are_those_of_the_four_and_no_held_out_image_is_trained_on():
    assert len(tiles("fashion-ten") & tiles("fashion-close")) == 4 * 400
    held_out = tiles("fashion-ten-heldout") | tiles("fashion-close-heldout")
    assert not held_out & (tiles("fashion-ten") | tiles("fashion-close") | tiles("fashion-source"))


def test_the_embedded_images_stay_small():
    sizes = {name: sum(file.stat().st_size for file in embedded(name).iterdir()) for name in WANTED}
    colour = sum(size for name, size in sizes.items() if name.startswith("emoji"))
    assert colour < 12_000_000
    assert sum(sizes.values()) - colour < 8_200_000


def test_drawings_in_colour_come_with_their_licences():
    for house, words in {"noto": "Apache License", "twemoji": "Attribution 4.0", "fluent": "Microsoft"}.items():
        assert words in (embedded("emoji").parent / f"LICENSE.{house}").read_text(encoding="utf-8")


def test_an_embedded_set_packs_to_32_pixels(tmp_path):
    index = pack(embedded("digits-heldout"), tmp_path / "out", pad=2)
    data = ShardSet(tmp_path / "out", resolution=32)
    assert (index.resolution, data.classes, data.counts) == (32, DIGITS, (500,) * 10)
    zero, one = (data[int((data.labels == label).nonzero()[0])][0].float() for label in (0, 1))
    assert zero[:, 14:18, 14:18].mean() < 60 < one[:, 14:18, 14:18].mean()  # a zero is hollow


def test_without_padding_the_error_says_what_to_pass(tmp_path):
    with pytest.raises(UserError, match="got 28; pass --resolution 16 or 32, with --pad"):
        pack(embedded("digits-heldout"), tmp_path / "out")


def test_an_unknown_set_is_met_with_the_nearest_name():
    with pytest.raises(UserError, match="no embedded images named 'digit'; did you mean 'digits'"):
        embedded("digit")


def test_damaged_sheets_are_refused(tmp_path):
    for file in embedded("digits-heldout").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    sheet = tmp_path / json.loads((tmp_path / "sheets.json").read_text())["sheets"][3]["file"]
    sheet.write_bytes(sheet.read_bytes()[:100])
    with pytest.raises(UserError, match=f"{sheet.name} is damaged"):
        open_source(tmp_path)
    (tmp_path / "sheets.json").write_text('{"format": "other"}')
    with pytest.raises(UserError, match="must be of format 'hmgan-sheets/1', got 'other'"):
        open_source(tmp_path)
