"""`hmgan sample`: seeds, grids, and what an image depends on."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from PIL import Image

from hmgan.commands.sample import parse_grid
from hmgan.errors import UserError
from hmgan.options.shared import parse_seeds


def test_seeds_are_numbers_and_ranges() -> None:
    assert parse_seeds("0,1,4-6") == [0, 1, 4, 5, 6]


@pytest.mark.parametrize("text", ["", "a", "3-1", "1,", "-2"])
def test_other_seeds_are_one_clear_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--seeds wants numbers and ranges such as 0,1,4-6, got "):
        parse_seeds(text)


def test_a_grid_is_columns_by_rows() -> None:
    assert parse_grid("8x4") == (8, 4)
    with pytest.raises(UserError, match="--grid wants COLUMNSxROWS such as 8x4, got '8'"):
        parse_grid("8")


def test_an_image_depends_on_its_seed_alone(tmp_path: Path, source: Path) -> None:
    for folder, seeds in (("few", "5"), ("many", "3-6")):
        assert tiny.command("sample", "--network", source, "--outdir", tmp_path / folder, "--seeds", seeds) == 0
    few, many = (Image.open(tmp_path / folder / "all-seed0005.png").tobytes() for folder in ("few", "many"))
    # One value of rounding: batches of different sizes may sum in another order.
    assert max(abs(a - b) for a, b in zip(few, many, strict=True)) <= 1


def test_a_grid_that_does_not_fit_the_seeds_is_refused_before_anything_is_drawn(
    tmp_path: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = tiny.command("sample", "--network", source, "--outdir", tmp_path / "out", "--grid", "2x2", "--seeds", "0-4")
    assert code == 2
    assert capsys.readouterr().err == "error: --grid 2x2 has 4 places for 5 seeds; make them equal\n"
    assert not (tmp_path / "out").exists()
