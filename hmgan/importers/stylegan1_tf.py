"""StyleGAN's TensorFlow pickles (version 3) as our StyleGAN1: names, layouts, and gains that are the weights' here.

TensorFlow adds biases after the blur and we before it, so that the outermost pixels of the up-sampling layers differ;
inside they are the same.
"""

from __future__ import annotations

from functools import partial
from math import sqrt

import torch

from hmgan.backbones.stylegan1 import FUSED, FUSED_FROM_PIXELS
from hmgan.importers.foreign import (
    NO_DISCRIMINATOR,
    SAME,
    ForeignNetwork,
    Layout,
    NetworkPlan,
    Pair,
    check_resolution,
    no_reason,
)
from hmgan.importers.layouts import DENSE, FLIPPED, HWIO, mean_row, plain_layer
from hmgan.layers.equalized import he_gain

ONE_PLUS = Layout("first half plus 1", lambda o: o, lambda t: torch.cat([t[: len(t) // 2] + 1, t[len(t) // 2 :]]))
MAPPING_RATE = 0.01
CONST, CONST_BIAS = "synthesis/4x4/Const/const", "synthesis/4x4/Const/bias"
# A dense layer over a 4x4 map, flattened channel by channel: [16 I, O] as [O, I, 4, 4].
OVER_MAP = Layout("as a 4x4", lambda o: (o[1] * o[2] * o[3], o[0]), lambda t: t.T.reshape(t.shape[1], -1, 4, 4))
BORDER = "biases come after the blur in TensorFlow: the outermost pixels of up-sampled maps differ slightly"


def plans(
    theirs: ForeignNetwork, judge: ForeignNetwork | None, group: int, resolution: int | None
) -> tuple[list[NetworkPlan], list[str]]:
    """The generator's plan and the discriminator's, and notes. Raises UserError for a resolution the file has not."""
    size = max(theirs.indices(r"synthesis/(\d{1,4})x\d+/Conv1?/weight"), default=0)
    if not size:
        raise theirs.refused("synthesis", "have blocks, got none")
    check_resolution(theirs.where, resolution, size)
    generator = plan_generator(theirs, size)
    if judge is None:
        return [generator], [BORDER, NO_DISCRIMINATOR]
    return [generator, plan_discriminator(judge, size, group)], [BORDER]


def plan_generator(theirs: ForeignNetwork, size: int) -> NetworkPlan:
    """The generator at `size` pixels."""
    blocks = (size // 4).bit_length()
    depth = theirs.indices(r"mapping/Dense(\d{1,2})/weight")
    pairs = []
    for i in depth:
        ours = f"mapping.{2 * i + 1}"
        pairs.append(Pair(f"{ours}.weight", f"mapping/Dense{i}/weight", DENSE, MAPPING_RATE))
        pairs.append(Pair(f"{ours}.bias", f"mapping/Dense{i}/bias", scale=MAPPING_RATE))
    # The constant's bias is added to it in any case.
    folded = theirs.get(CONST) + theirs.get(CONST_BIAS)[:, None, None]
    whole = theirs._replace(tensors={**theirs.tensors, CONST: folded})
    pairs.append(Pair("blocks.0.const", CONST))
    for i in range(blocks):
        ours, folder = f"blocks.{i}", f"synthesis/{4 << i}x{4 << i}"
        first, second = ("Const", "Conv") if i == 0 else ("Conv0_up", "Conv1")
        if i:
            # Fused kernels are summed there and averaged here, and stored for a transposed convolution.
            layout, scale = (HWIO, 1.0) if 4 << i < FUSED_FROM_PIXELS else (FLIPPED, 1 / FUSED)
            pairs.append(Pair(f"{ours}.conv1.weight", f"{folder}/{first}/weight", layout, scale))
            pairs.append(Pair(f"{ours}.conv1.bias", f"{folder}/{first}/bias"))
        pairs += plain_layer(f"{ours}.conv2", f"{folder}/{second}", HWIO)
        for n, layer in ((1, first), (2, second)):
            pairs += _epilogue(whole, ours, n, f"{folder}/{layer}")
    pairs.append(Pair("to_rgb.weight", "synthesis/ToRGB_lod0/weight", HWIO, 1 / sqrt(2)))
    pairs.append(Pair("to_rgb.bias", "synthesis/ToRGB_lod0/bias"))
    widths = [
        whole.shape(f"synthesis/{4 << i}x{4 << i}/{'Conv1' if i else 'Conv'}/weight", 4)[3] for i in range(blocks)
    ]
    z_dim = whole.shape("mapping/Dense0/weight", 2)[0]
    options = {"resolution": size, "channels": widths, "z_dim": z_dim, "mapping_layers": len(depth)}
    return NetworkPlan("generator", whole, options, pairs, partial(_reason, whole))


def _epilogue(theirs: ForeignNetwork, ours: str, n: int, layer: str) -> list[Pair]:
    """Noise strengths, and the style: scale and shift, whose scale is stored without its 1."""
    channels = theirs.shape(f"{layer}/Noise/weight", 1)[0]
    return [
        Pair(f"{ours}.noise{n}.weight", f"{layer}/Noise/weight", scale=1 / he_gain(channels)),
        Pair(f"{ours}.norm{n}.style.weight", f"{layer}/StyleMod/weight", DENSE, 1 / sqrt(2)),
        Pair(f"{ours}.norm{n}.style.bias", f"{layer}/StyleMod/bias", ONE_PLUS),
    ]


def plan_discriminator(theirs: ForeignNetwork, size: int, group: int) -> NetworkPlan:
    """The discriminator of `size` pixels. Its fused kernels are averages, too: a 3x3 and the mean of 2x2 pixels."""
    pairs = plain_layer("from_rgb", "FromRGB_lod0", HWIO)
    widths = [theirs.shape("FromRGB_lod0/weight", 4)[3]]
    pixels = [size >> i for i in range((size // 8).bit_length())]  # of the blocks, the largest first
    for i, side in enumerate(pixels):
        folder = f"{side}x{side}"
        pairs += plain_layer(f"blocks.{i}.conv1", f"{folder}/Conv0", HWIO)
        pairs += plain_layer(f"blocks.{i}.conv2", f"{folder}/Conv1_down", HWIO)
        widths.append(theirs.shape(f"{folder}/Conv1_down/weight", 4)[3])
    pairs += [*plain_layer("conv1", "4x4/Conv", HWIO), *plain_layer("conv2", "4x4/Dense0", OVER_MAP)]
    classes = theirs.shape("4x4/Dense1/weight", 2)[1]
    row, bias = (DENSE, SAME) if classes == 1 else (mean_row(classes), mean_row(classes))
    pairs += [Pair("head.weight", "4x4/Dense1/weight", row, 1 / sqrt(2)), Pair("head.bias", "4x4/Dense1/bias", bias)]
    options = {"resolution": size, "channels": widths[::-1], "widen_first": False, "stddev_group": group}
    return NetworkPlan("discriminator", theirs, options, pairs, partial(_reason, theirs))


def _reason(theirs: ForeignNetwork, name: str) -> str:
    if name == CONST_BIAS:
        return "added to the constant"
    if name.startswith("synthesis/noise"):
        return "a map of noise"
    if name.startswith(("synthesis/ToRGB_lod", "FromRGB_lod")):
        return "of a lower resolution while the network grew"
    if name == "dlatent_avg":
        return "the mean w, which is taken over fixed draws here"
    if name in ("lod", "synthesis/lod"):
        return "a state of training"
    return no_reason(theirs, name)
