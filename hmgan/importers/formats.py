"""The formats that `hmgan import` knows, recognised by what is in a file and never by its name, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hmgan.importers import hypermod, nvidia, rosinality2, stylegan1_port, tensorflow
from hmgan.importers.foreign import Checkpoint, File
from hmgan.importers.pickled.content import Content


class Format(NamedTuple):
    """A kind of file."""

    name: str
    holds: Callable[[Content], bool]
    read: Callable[[File, int | None, int | None], Checkpoint]  # with the wanted resolution, and D's group


FORMATS = (
    Format("a network pickle of stylegan2-ada-pytorch or stylegan3", nvidia.holds, nvidia.read),
    Format("a checkpoint of the StyleGAN2 PyTorch port", rosinality2.holds, rosinality2.read),
    Format("a TensorFlow network pickle", tensorflow.holds, tensorflow.read),
    Format("a released Hyper-Modulation checkpoint", hypermod.holds, hypermod.read),
    Format("a checkpoint of the StyleGAN1 PyTorch port", stylegan1_port.holds, stylegan1_port.read),
)


def recognised(content: Content) -> Format | None:
    """The format of a file, or None."""
    return next((one for one in FORMATS if one.holds(content)), None)
