"""Sites and whole generators of StyleGAN2 and 3 for bench_step.py: ours, the source, and a kernel per sample.

B batch, R rows, O/I channels out and in, k kernel size, E class dim.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan import components
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import SOURCE, Edits, per_sample
from hmgan.layers.modulated import EPSILON, ModulatedConv2d
from hmgan.modulation.adafm import AdaFMHeads, SiteHeads
from hmgan.modulation.class_nets import ClassMLP

PER_SAMPLE, OURS, SOURCE_ONLY, TRAINED = "(a) per sample", "(b) ours", "(c) source", "(d) trained source"
Styled = Literal["stylegan2", "stylegan3"]


class Variants(NamedTuple):
    """What takes turns: networks whose gradients are cleared, and what is run."""

    networks: dict[str, nn.Module]
    runs: dict[str, Callable[[], Tensor]]


def site(backbone: Styled, channels: int, pixels: int, up: bool, labels_B: Tensor, class_dim: int) -> Variants:
    """A site of StyleGAN2, or of StyleGAN3-T, whose filters change no size within it.

    The source is frozen in all but (d), which shows what the gradient by a weight costs, whatever makes that weight.
    """
    three = backbone == "stylegan3"
    padding = 2 if three else None
    conv = ModulatedConv2d("site", channels, channels, channels, up=up, padding=padding, relative=three)
    trained = copy.deepcopy(conv)
    conv.requires_grad_(False)
    heads = SiteHeads(conv.site(), class_dim, "align", 1e-5)
    x = torch.randn(len(labels_B), channels, pixels, pixels, requires_grad=True)
    w_BW = torch.randn(len(labels_B), channels, requires_grad=True)
    v_RE = torch.randn(int(labels_B.max()) + 1, class_dim, requires_grad=True)
    counts = tuple(torch.bincount(labels_B).tolist())

    def edits() -> Edits:
        return Edits({"site": heads(v_RE)}, rows=len(counts), counts=counts)

    leaves = nn.ParameterList([x, w_BW, v_RE])
    edited, plain, tuned = (nn.ModuleList([each, leaves]) for each in (heads, conv, trained))
    return Variants(
        {PER_SAMPLE: edited, OURS: edited, SOURCE_ONLY: plain, TRAINED: tuned},
        {
            PER_SAMPLE: lambda: fused(conv, x, w_BW, edits()),
            OURS: lambda: conv(x, w_BW, edits())[0],
            SOURCE_ONLY: lambda: conv(x, w_BW, SOURCE)[0],
            TRAINED: lambda: trained(x, w_BW, SOURCE)[0],
        },
    )


def fused(conv: ModulatedConv2d, x: Tensor, w_BW: Tensor, edits: Edits) -> Tensor:
    """The same convolution with a kernel per sample, as the releases fuse it: one grouped convolution."""
    weight_ROIkk = edits.weights[conv.name].weights(conv.weight, conv.bias)[0]
    weight_BOIkk = per_sample(weight_ROIkk, edits.counts) * conv.affine(w_BW)[:, None, :, None, None]
    weight_BOIkk = weight_BOIkk * (weight_BOIkk.square().sum((2, 3, 4), keepdim=True) + EPSILON).rsqrt()
    joined, groups = x.flatten(0, 1)[None], len(x)
    if conv.up:
        y = F.conv_transpose2d(joined, weight_BOIkk.transpose(1, 2).flatten(0, 1), stride=2, groups=groups)
    else:
        y = F.conv2d(joined, weight_BOIkk.flatten(0, 1), padding=conv.padding, groups=groups)
    return y[0].unflatten(0, (groups, -1))


def generator(backbone: Styled, resolution: int, labels_B: Tensor, class_dim: int) -> Variants:
    """Whole generators of the published widths: the source trains, as ours does its heads."""
    made: list[Backbone] = [components.build("backbone", backbone, resolution=resolution) for _ in range(2)]
    source, alone = made
    classes = int(labels_B.max()) + 1
    ours = TransferGenerator(source, ClassMLP(classes, dim=class_dim), AdaFMHeads(source, class_dim))
    plain = UnconditionalGenerator(alone)
    latents = ours.latents(list(range(len(labels_B))), 0.9)
    return Variants(
        {OURS: ours, SOURCE_ONLY: plain},
        {OURS: lambda: ours(latents, labels_B).image, SOURCE_ONLY: lambda: plain(latents, labels_B).image},
    )
