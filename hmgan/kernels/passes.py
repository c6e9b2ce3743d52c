"""Passes by kernels: biases leave the convolutions, and every map is written once and read once between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan.kernels.edited import Form, edited
from hmgan.kernels.finish import Filter, finished
from hmgan.kernels.leaky_fir import leaky_fir
from hmgan.kernels.stencil import BLUR, BLUR_BOX, NONE, channels_last
from hmgan.layers.edits import Edits, WeightEdit
from hmgan.layers.equalized import Blur, EqualConv2d
from hmgan.layers.passes import Finishing, Passes, Styling
from hmgan.layers.sites import ConvSite


def leaky(x: Tensor, conv: EqualConv2d) -> Tensor:
    """`hmgan.layers.passes.leaky`; the result lies channels last."""
    return leaky_fir(F.conv2d(x, conv.kernel(), padding=conv.padding), conv.bias, NONE)


def halved(x: Tensor, conv: EqualConv2d, _: Blur, down: EqualConv2d) -> Tensor:
    """`hmgan.layers.passes.halved`; the mean of 2x2 pixels joins the blur."""
    blurred = leaky_fir(F.conv2d(x, conv.kernel(), padding=conv.padding), conv.bias, BLUR_BOX)
    return leaky_fir(F.conv2d(blurred, down.kernel(), stride=2), down.bias, NONE)


def styled(x: Tensor, conv: ConvSite | None, edits: Edits, blur: Blur | None, _: Finishing, styling: Styling) -> Tensor:
    """`hmgan.layers.passes.styled`; sums of 2x2 pixels join the blur, and the result lies channels last."""
    if conv is None:
        return finished(x, x.new_zeros(1, x.shape[1]), Filter(NONE), styling)

    def way(x: Tensor, conv: ConvSite, edits: Edits) -> Tensor:
        return finished(*convolved(channels_last(x), conv, edits), filter_of(conv, blur), styling)

    return conv(x, edits, way)


def filter_of(conv: ConvSite, blur: Blur | None) -> Filter:
    """What follows what `convolved` makes."""
    if blur is None:
        return Filter(NONE)
    # Which takes means of 2x2 pixels, where the site takes sums times `up`.
    return Filter(BLUR_BOX, 4 * conv.up) if conv.up else Filter(BLUR)


def convolved(x: Tensor, conv: ConvSite, edits: Edits) -> tuple[Tensor, Tensor]:
    """What every class's convolution makes of its samples, and its bias for each of them, or one for all."""
    edit = edits.weights.get(conv.name)
    if edit is None:
        return conv.convolved(x, conv.turned(conv.effective_weight()), None), conv.bias[None]
    kernels, bias_RO = kernels_of(edit, conv, x)
    rows = [row for row in zip(x.split(edits.counts), kernels, bias_RO, strict=True) if len(row[0])]
    maps = [conv.convolved(x_r, kernel, None) for x_r, kernel, _ in rows]
    if len(rows) == 1:
        return maps[0], rows[0][2][None]
    return torch.cat(maps), torch.cat([bias_O.expand(len(x_r), -1) for x_r, _, bias_O in rows])


def kernels_of(edit: WeightEdit, conv: ConvSite, x: Tensor) -> tuple[Sequence[Tensor], Tensor]:
    """The kernels of all rows as the convolution takes them, and biases [R, O]."""
    tables = edit.tables(conv.weight)
    if tables is None:
        weight_ROIkk, bias_RO = edit.weights(conv.weight, conv.bias)
        return [conv.turned(weight_OIkk) for weight_OIkk in weight_ROIkk], bias_RO
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    return edited(tables, Form(dtype, conv.transposed, conv.flipped)), conv.bias + tables.bias_RO


BY_KERNELS = Passes(leaky, halved, styled)
