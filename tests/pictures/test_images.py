"""Grids put the right pixel in the right place."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hmgan.pictures.images import enlarged, grid, labelled_grid, pasted, save_png, to_uint8


def flat(n: int, px: int = 4) -> Tensor:
    """[n, 3, px, px] uint8, image i of colour (i, 100 + i, 200)."""
    colours = torch.tensor([[i, 100 + i, 200] for i in range(n)], dtype=torch.uint8)
    return colours[:, :, None, None].expand(n, 3, px, px).contiguous()


def test_to_uint8_inverts_the_loaders_scaling_and_clamps() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(every.float() / 127.5 - 1), every)
    assert to_uint8(torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0])).tolist() == [0, 0, 128, 255, 255]


def test_a_grid_fills_rows_first_and_leaves_missing_cells_white() -> None:
    pixels = np.asarray(grid(flat(5), columns=3, pad=2))
    assert pixels.shape == (2 * 6 + 2, 3 * 6 + 2, 3)
    for i in range(5):
        top, left = 2 + 6 * (i // 3), 2 + 6 * (i % 3)
        assert (pixels[top : top + 4, left : left + 4] == (i, 100 + i, 200)).all()
    assert (pixels[8:, 14:] == 255).all()
    assert (pixels[:2] == 255).all()
    assert (pixels[:, -2:] == 255).all()


def test_images_of_a_pasted_grid_are_not_in_memory_together() -> None:
    alive: list[weakref.ref[Tensor]] = []

    def drawn() -> Iterator[Tensor]:
        for image in flat(6):
            each = image.clone()
            alive.append(weakref.ref(each))
            yield each
            del each
            assert sum(one() is not None for one in alive) <= 1

    assert np.array_equal(np.asarray(pasted(drawn(), 6, columns=3)), np.asarray(grid(flat(6), columns=3)))


def test_a_grid_keeps_rows_and_columns_of_an_image_apart() -> None:
    image = torch.arange(3 * 2 * 5, dtype=torch.uint8).view(1, 3, 2, 5)
    pixels = np.asarray(grid(image, columns=1, pad=0))
    assert np.array_equal(pixels, image[0].permute(1, 2, 0).numpy())


def test_a_labelled_grid_enlarges_whole_pixels_beside_dark_text() -> None:
    rows = {"cat": flat(3), "a long class name": flat(2)}
    pixels = np.asarray(labelled_grid(rows, scale=8))
    assert pixels.shape[0] == 2 * (4 + 2) * 8 + 16
    margin = pixels.shape[1] - (3 * (4 + 2) * 8 + 16)
    assert margin > 60
    for row, count in enumerate((3, 2)):
        strip = pixels[row * 48 + 16 : row * 48 + 48]
        assert strip[:, :margin].min() < 100  # Its name.
        for i in range(count):
            left = margin + 16 + 48 * i
            assert (strip[:, left : left + 32] == (i, 100 + i, 200)).all()
    assert (pixels[64 : 64 + 32, margin + 16 + 96 :] == 255).all()
    assert (pixels[:, :4] == 255).all()


def test_a_png_is_read_back_as_saved_and_nothing_is_left_over(tmp_path: Path) -> None:
    path = tmp_path / "run" / "fakes.png"
    image = grid(flat(2), columns=2)
    save_png(image, path)
    save_png(image, path)
    with Image.open(path) as saved:
        assert saved.format == "PNG"
        assert np.array_equal(np.asarray(saved), np.asarray(image))
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_save_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "fakes.png"
    save_png(grid(flat(1), columns=1), path)
    before = path.read_bytes()
    with pytest.raises(OSError, match="cannot write mode HSV"):
        save_png(Image.new("HSV", (4, 4)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_images_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"uint8 images \[N, 3, H, W\], got torch.float32 .*; use to_uint8"):
        grid(torch.zeros(1, 3, 4, 4), columns=1)
    with pytest.raises(ValueError, match="columns must be at least 1, got 0"):
        grid(flat(1), columns=0)
    with pytest.raises(ValueError, match="got 0 rows, scale 1"):
        labelled_grid({})
    with pytest.raises(ValueError, match=r"one image size, got \[\(4, 4\), \(8, 8\)\]"):
        labelled_grid({"a": flat(1, 4), "b": flat(1, 8)})


def test_enlarging_repeats_every_pixel():
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(1, 3, 2, 2)
    wanted = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]], dtype=torch.uint8)
    assert torch.equal(enlarged(image, 2), wanted.expand(1, 3, 4, 4))
