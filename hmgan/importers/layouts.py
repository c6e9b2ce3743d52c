"""How files store tensors that we store otherwise. Shapes and functions take [O, I, k, k], [O, I], or what is said."""

from __future__ import annotations

import torch

from hmgan.importers.foreign import Layout, Pair

FIRST = Layout("first of one", lambda ours: (1, *ours), lambda tensor: tensor[0])
MAP = Layout("first of one", lambda ours: (1, 1, *ours), lambda tensor: tensor[0, 0])
SCALAR = Layout("of one number", lambda ours: (1,), lambda tensor: tensor[0])
PER_CHANNEL = Layout("flattened", lambda ours: (1, *ours, 1, 1), torch.flatten)
# TensorFlow's convolutions and dense layers.
HWIO = Layout("from HWIO", lambda o: (o[2], o[3], o[1], o[0]), lambda t: t.permute(3, 2, 0, 1))
FLIPPED = Layout("from HWIO, flipped", lambda o: (o[2], o[3], o[1], o[0]), lambda t: t.flip(0, 1).permute(3, 2, 0, 1))
DENSE = Layout("transposed", lambda o: o[::-1], lambda t: t.T)
# A kernel for a transposed convolution.
FUSED_UP = Layout("transposed and flipped", lambda o: (o[1], o[0], *o[2:]), lambda k: k.transpose(0, 1).flip(2, 3))


def plain_layer(ours: str, theirs: str, layout: Layout) -> list[Pair]:
    """Weight and bias of a layer of TensorFlow's."""
    return [Pair(f"{ours}.weight", f"{theirs}/weight", layout), Pair(f"{ours}.bias", f"{theirs}/bias")]


def mean_row(classes: int) -> Layout:
    """Of an output per class, the mean: [F, L] -> [1, F], [L] -> [1]."""
    return Layout(f"the mean of {classes} classes", lambda ours: (*ours[1:], classes), lambda t: t.mean(-1)[None])
