"""The rows of a grid."""

from __future__ import annotations

import torch

from hmgan.pictures.grids import one_photograph


def test_the_photograph_that_is_repeated_is_the_one_nearest_to_the_mean_of_its_class() -> None:
    greys = {"dark": [0, 10, 40], "light": [200, 255, 250]}
    pixels = {name: torch.tensor(values, dtype=torch.uint8) for name, values in greys.items()}
    rows = {name: values_N.view(3, 1, 1, 1).expand(3, 3, 4, 4) for name, values_N in pixels.items()}
    repeated = one_photograph(rows, columns=5)
    assert {name: (images.shape, images.unique().tolist()) for name, images in repeated.items()} == {
        "dark": ((5, 3, 4, 4), [10]),
        "light": ((5, 3, 4, 4), [250]),
    }
