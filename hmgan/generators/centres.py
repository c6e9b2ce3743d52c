"""Where a class's good images come from: the mean of its best styles, kept beside the model. K blocks, W style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from hmgan.errors import UserError
from hmgan.files import write_atomically
from hmgan.generators.source import read_tensors

CENTRES = "centres.safetensors"


def read_centres(folder: Path, classes: Sequence[str]) -> dict[str, Tensor]:
    """[K, W] of each class that has one; none where none are kept. Raises UserError for others than the model's."""
    if not (folder / CENTRES).is_file():
        return {}
    kept = read_tensors(folder / CENTRES)
    for name, centre in kept.items():
        if name not in classes or centre.dim() != 2:
            got = f"got {name!r} of shape {list(centre.shape)}"
            raise UserError(f"{folder / CENTRES} should hold [K, W] of classes of the model, {got}; make it again")
    return kept


def write_centres(folder: Path, centres: Mapping[str, Tensor]) -> None:
    """Writes them whole or not at all; none are no file."""
    if centres:
        tensors = {name: centre.detach().cpu().contiguous() for name, centre in centres.items()}
        write_atomically(folder / CENTRES, partial(save_file, tensors))
