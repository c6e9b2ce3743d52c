"""A site and a whole generator, forward and backward, for bench_step.py: StyleGAN1, by every variant."""

from __future__ import annotations

import torch
from bench_step_table import Row
from bench_step_timing import Pace, forward_and_backward
from bench_step_variants import CHANNELS, OURS, RELEASED, SOURCE_ONLY, Size
from released_reference import ReleasedConv, ReleasedGenerator
from row_c import CLASS_DIM
from styled_reference import Variants
from torch import nn

from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.sites import SiteConv2d
from hmgan.modulation.adafm import SiteHeads


def site_rows(size: Size, pace: Pace, pixels: int, released: bool) -> list[Row]:
    conv = SiteConv2d("site", CHANNELS, CHANNELS)
    heads = SiteHeads(conv.site(), CLASS_DIM, "align", 1e-5)
    x = torch.randn(size.batch, CHANNELS, pixels, pixels, requires_grad=True)
    v_RE = torch.randn(size.classes, CLASS_DIM, requires_grad=True)
    labels_B = size.labels()
    counts = tuple(torch.bincount(labels_B, minlength=size.classes).tolist())
    made = Variants(
        {OURS: nn.ModuleList([heads]), SOURCE_ONLY: conv},
        {
            OURS: lambda: conv(x, Edits({"site": heads(v_RE)}, rows=size.classes, counts=counts)),
            SOURCE_ONLY: lambda: conv(x, SOURCE),
        },
    )
    if released:
        reference = ReleasedConv(conv, heads)
        made.networks[RELEASED], made.runs[RELEASED] = reference, lambda: reference(x, v_RE[labels_B])
    name = f"site {CHANNELS}x{CHANNELS}, {pixels} px, batch {size.batch}"
    return pass_rows(name, made, pace, (1.3, 1.5))


def generator_rows(size: Size, pace: Pace, released: bool) -> list[Row]:
    ours = size.generator()
    plain = UnconditionalGenerator(size.source())
    latents = ours.latents(list(range(size.batch)), 0.9)
    labels_B = size.labels()
    made = Variants(
        {OURS: ours, SOURCE_ONLY: plain},
        {OURS: lambda: ours(latents, labels_B).image, SOURCE_ONLY: lambda: plain(latents, labels_B).image},
    )
    if released:
        reference = ReleasedGenerator(ours)
        made.networks[RELEASED], made.runs[RELEASED] = reference, lambda: reference(latents, labels_B)
    name = f"generator, {size.resolution} px, batch {size.batch}"
    return pass_rows(name, made, pace, (1.1, 1.15))


def pass_rows(name: str, made: Variants, pace: Pace, wanted: tuple[float, float]) -> list[Row]:
    """The forward pass, and both, with what is wanted of each against the source alone."""
    forward, both = forward_and_backward(made, pace)
    return [
        Row(f"{name}, forward", "ms", forward, SOURCE_ONLY, wanted[0]),
        Row(f"{name}, forward + backward", "ms", both, SOURCE_ONLY, wanted[1]),
    ]
