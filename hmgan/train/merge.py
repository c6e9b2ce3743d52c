"""A checkpoint of shares as one file of whole tensors, of which no more than one is in memory at once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO

import torch

from hmgan.errors import UserError
from hmgan.files import sha256_of, write_folder_atomically
from hmgan.train.checkpoint import TENSORS, read, seal
from hmgan.train.shares import Stored

ALIGNED = 8  # bytes: where a safetensors file's tensors begin


def merge(folder: Path, out: Path) -> None:
    """Writes the checkpoint anew, whole, into a new folder. Raises UserError for one that is whole or damaged."""
    state = read(folder)
    if not (names := state.pop("shares", {})):
        raise UserError(f"{folder} is a checkpoint of whole tensors already: {TENSORS} in it is one safetensors file")
    stored = Stored(folder, names)

    def fill(partial: Path) -> None:
        with (partial / TENSORS).open("wb") as file:
            write_whole(stored, file)
        rest = {key: value for key, value in state.items() if key != "digest"}
        seal(partial, {**rest, "sha256": sha256_of(partial / TENSORS)})

    write_folder_atomically(out, fill)


def write_whole(stored: Stored, file: IO[bytes]) -> None:
    """Writes a safetensors file: the header's length, the header, and tensor after tensor."""
    wholes = stored.wholes("")
    header, end = dict[str, object](), 0
    for name in sorted(wholes, key=lambda name: (-wholes[name].itemsize, name)):  # so that all lie aligned
        begin, end = end, end + wholes[name].nbytes
        header[name] = {
            "dtype": stored.kinds[name],
            "shape": list(wholes[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text = text.ljust(ALIGNED * math.ceil(len(text) / ALIGNED))
    file.write(len(text).to_bytes(8, "little") + text)
    for name in header:
        file.write(stored.whole(name).reshape(-1).view(torch.uint8).numpy().data)
