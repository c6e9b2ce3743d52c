"""Sites and generators of StyleGAN2 and 3 for bench_step.py, against the source and against kernels per sample."""

from __future__ import annotations

import styled_reference
import typer
from bench_step_passes import pass_rows
from bench_step_table import Row
from bench_step_timing import Pace, keep_freed_memory, peak_gib, with_backward
from bench_step_variants import CHANNELS, PER_SAMPLE, SOURCE_ONLY, TRAINED, Size, variants
from row_c import CLASS_DIM
from styled_reference import Styled


def styled_rows(size: Size, pace: Pace, backbone: Styled, wants: list[str], site_pixels: list[int]) -> list[Row]:
    """What is measured of StyleGAN2 and 3; up-sampling sites, of StyleGAN2, end at the same sizes."""
    rows = []
    if "memory" in wants:  # first: a child inherits the peak of its parent
        rows.append(styled_memory_row(size, backbone))
    keep_freed_memory()
    if "site" in wants:
        for pixels in site_pixels:
            rows += styled_site_rows(size, pace, backbone, pixels, up=False)
            if backbone == "stylegan2":
                rows += styled_site_rows(size, pace, backbone, pixels // 2, up=True)
    if "generator" in wants:
        rows += styled_generator_rows(size, pace, backbone)
    if not rows:
        raise typer.BadParameter("of stylegan2 and 3 it is site, generator or memory", param_hint="--part")
    return rows


def styled_site_rows(size: Size, pace: Pace, backbone: Styled, pixels: int, up: bool) -> list[Row]:
    """Against the frozen source, kernels per sample, and the source whose weights train."""
    made = styled_reference.site(backbone, CHANNELS, pixels, up, size.labels(), CLASS_DIM)
    where = f"{pixels} -> {2 * pixels} px" if up else f"{pixels} px"
    name = f"{backbone}, site {CHANNELS}x{CHANNELS}, {where}, batch {size.batch}"
    bar = 1.8 if pixels * (1 + up) < 64 else 1.5
    rows = pass_rows(name, made, pace, (1.25, bar))
    against = [row._replace(limit=PER_SAMPLE, wanted=0.6) for row in rows]
    return [*rows, *against, rows[1]._replace(limit=TRAINED, wanted=None)]


def styled_generator_rows(size: Size, pace: Pace, backbone: Styled) -> list[Row]:
    made = styled_reference.generator(backbone, size.resolution, size.labels(), CLASS_DIM)
    name = f"{backbone}, generator, {size.resolution} px, batch {size.batch}"
    forward, both = pass_rows(name, made, pace, (1.1, 1.15))
    return [forward._replace(wanted=None), both]


def styled_memory_row(size: Size, backbone: Styled) -> Row:
    """Of G's forward and backward pass."""
    peaks = {v: peak_gib(size.threads, _both_passes, v, size, backbone) for v in variants(released=False)}
    name = f"{backbone}, generator, {size.resolution} px, batch {size.batch}, peak memory"
    return Row(name, "GiB", peaks, SOURCE_ONLY, None)


def _both_passes(variant: str, size: Size, backbone: Styled) -> None:
    made = styled_reference.generator(backbone, size.resolution, size.labels(), CLASS_DIM)
    with_backward(made.runs[variant], made.networks[variant])()
