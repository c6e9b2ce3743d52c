"""scripts/contact_sheets.py and scripts/build_emoji.py: sets read back exactly, and drawings stay apart."""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmgan.data.decode import decode
from hmgan.data.pack.kinds import open_source

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
import build_emoji
import contact_sheets


@pytest.mark.parametrize("colours", [(), (3,)])
def test_a_set_reads_back_as_it_was_written_class_by_class(colours, tmp_path):
    rng = np.random.default_rng(0)
    classes = {name: rng.integers(0, 256, (count, 8, 8, *colours), np.uint8) for name, count in (("a", 3), ("b", 120))}
    size = contact_sheets.write_set(tmp_path / "set", classes)
    assert size == sum(file.stat().st_size for file in (tmp_path / "set").iterdir())
    items = open_source(tmp_path / "set").items
    assert [item.label for item in items] == ["a"] * 3 + ["b"] * 120
    last = np.asarray(decode(items[-1].read()))
    assert np.array_equal(last, np.broadcast_to(classes["b"][-1].reshape(8, 8, -1), (8, 8, 3)))


def test_more_tiles_than_a_file_of_webp_is_tall_get_more_columns():
    assert contact_sheets.columns_of(6366, 32) == 50
    assert contact_sheets.columns_of(36000, 28) == 62
    rows = -(-36000 // 62)
    assert 28 * rows < contact_sheets.TALLEST


def test_no_emoji_is_both_trained_on_and_held_out():
    group = build_emoji.Group("Objects", "tool")
    found = [
        build_emoji.Drawing(f"{code:x}", group, np.full((32, 32, 3), code, np.uint8))
        for code in range(90)
        for _ in range(3)
    ]
    train, held = (set(tiles[:, 0, 0, 0].tolist()) for tiles in build_emoji.apart(found))
    assert len(held) == 30
    assert not train & held


def test_a_code_has_one_spelling_and_a_skin_tone_its_emojis_group():
    assert build_emoji.short("0023-FE0F-20E3") == "23-20e3"
    tones = {"1F3FB": {"unified": "261D-1F3FB"}}
    group = build_emoji.Group("People & Body", "hand-single-finger")
    emoji = [{"unified": "261D-FE0F", **group._asdict(), "skin_variations": tones}]
    assert build_emoji.groups(emoji) == {"261d": group, "261d-1f3fb": group}


def test_kinds_and_the_source_share_no_drawing_and_no_kind_another():
    parts = [part for kind in build_emoji.KINDS.values() for part in kind] + list(build_emoji.PEOPLE)
    assert len(parts) == len(set(parts))


def test_a_drawing_lies_on_white_in_its_frame():
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), (255, 0, 0, 128)).save(file, "PNG")
    tile = build_emoji.draw(file.getvalue())
    assert tile.shape == (32, 32, 3)
    assert (tile[0] == 255).all()
    assert tile[16, 16].tolist() == pytest.approx([255, 127, 127], abs=2)


def test_a_package_that_is_another_one_is_refused(tmp_path):
    with tarfile.open(tmp_path / build_emoji.NOTO.file, "w:gz"):
        pass
    with pytest.raises(RuntimeError, match=r"not npm's ZRexfzs7.*; download it again"):
        next(build_emoji.members(tmp_path, build_emoji.NOTO))
