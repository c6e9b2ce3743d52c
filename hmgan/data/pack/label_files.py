"""Files that say which class an image is of, as the owners of data sets write them."""

from __future__ import annotations

import io

import numpy as np

from hmgan.errors import UserError


def attribute_column(content: bytes, name: str, column: str) -> dict[str, str]:
    """A column of CelebA's attribute list, by file name.

    The list's lines are the number of images, the names of the columns, and for each image its file name and a value
    (-1 or 1) per column.

    Raises: UserError if it is no such list, or has no such column.
    """
    lines = content.decode(errors="replace").splitlines()
    columns = lines[1].split() if len(lines) > 1 else []
    if column not in columns:
        raise UserError(f"{name} has no column {column!r} in its second line; get it anew from its owner")
    place = columns.index(column) + 1
    values = {}
    for number, line in enumerate(lines[2:], 3):
        words = line.split()
        if words and len(words) != len(columns) + 1:
            got = f"{len(words) - 1} in line {number}"
            raise UserError(f"{name} must have {len(columns)} values a line, got {got}; get it anew from its owner")
        if words:
            values[words[0]] = words[place]
    return values


def matlab_vector(content: bytes, name: str, variable: str) -> list[int]:
    """A vector of whole numbers in a MATLAB file.

    Raises: UserError if there is no such vector.
    """
    from scipy.io import loadmat  # here, because most packing needs none

    try:
        array = np.asarray(loadmat(io.BytesIO(content), variable_names=[variable])[variable])
        if array.dtype.kind not in "iu":
            raise ValueError(f"it holds {array.dtype}")
    except Exception as error:  # on damaged bytes, loadmat raises nearly anything
        raise UserError(
            f"{name} holds no whole numbers called {variable!r} ({type(error).__name__}: {error}); get it anew"
        ) from error
    return [int(number) for number in array.flatten()]
