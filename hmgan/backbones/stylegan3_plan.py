"""Which layers a new StyleGAN3 has, and their filters (Karras et al. 2021). Sizes and paddings are (x, y)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from hmgan.errors import UserError

CRITICAL, MARGIN, TAPS = 2, 10, 6
BASES = {"t": (32768, 512), "r": (65536, 1024)}


class _Read:
    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Self:
        """From a table of config.json. Raises UserError for one that is not such a layer."""
        try:
            return cls(**table)
        except TypeError as error:
            problem = str(error).rpartition("__init__() ")[2]
            raise UserError(
                f"backbone.layers: {table.get('name', 'a layer')} {problem}; import the file again"
            ) from None


@dataclass(frozen=True)
class InputPlan(_Read):
    """The Fourier features."""

    channels: int
    size: Sequence[int]
    sampling_rate: float
    bandwidth: float
    name: str = "input"


@dataclass(frozen=True)
class LayerPlan(_Read):
    """One layer, as it acts: what a file says of it, or `plan` computes."""

    name: str
    in_channels: int
    out_channels: int
    kernel: int
    up: int
    down: int
    padding: Sequence[int]  # left, right, top, bottom of the up-sampling
    up_filter: Sequence[int] | None  # shapes: [n], [n, n], or none where nothing is filtered
    down_filter: Sequence[int] | None
    out_size: Sequence[int]
    torgb: bool = False
    clamp: float | None = 256.0


@dataclass(frozen=True)
class Band:
    """The signal behind a layer; frequencies in cycles per image."""

    cutoff: float
    half_width: float
    rate: int
    size: int
    channels: int


def bands(resolution: int, base: int, most: int, rgb: int, depth: int) -> list[Band]:
    """Behind the input, and behind each layer; the frequencies grow geometrically until the last, critical ones."""
    found = []
    for i in range(depth + 1):
        share = min(i / (depth - CRITICAL), 1)
        cutoff = 2 * (resolution / 4) ** share
        stop = 2**2.1 * (resolution / 2 * 2**0.3 / 2**2.1) ** share
        rate = 2 ** math.ceil(math.log2(min(2 * stop, resolution)))
        size = resolution if i >= depth - 1 else rate + 2 * MARGIN
        channels = rgb if i == depth else round(min(base / 2 / cutoff, most))
        found.append(Band(cutoff, max(stop, rate / 2) - cutoff, rate, size, channels))
    return found


def plan(
    resolution: int, kind: Literal["t", "r"], base: int, most: int, rgb: int, depth: int
) -> tuple[InputPlan, list[LayerPlan], list[tuple[Tensor, Tensor] | None]]:
    """Input, layers, and each layer's filters for both of its directions.

    Raises: UserError for a resolution that is no power of two from 8 to 1024, or a depth below 3.
    """
    if resolution not in [8 << i for i in range(8)]:
        raise UserError(f"resolution must be a power of two from 8 to 1024, got {resolution}")
    if depth < CRITICAL + 1:
        raise UserError(f"depth counts layers and must be at least {CRITICAL + 1}, got {depth}")
    found, layers, filters = bands(resolution, base, most, rgb, depth), [], []
    for i, after in enumerate(found):
        before, torgb = found[max(i - 1, 0)], i == depth
        rate = after.rate if torgb else 2 * max(before.rate, after.rate)
        up, down = rate // before.rate, rate // after.rate
        kernel = 1 if torgb or kind == "r" else 3
        radial = kind == "r" and i < depth - CRITICAL
        up_taps, down_taps = (1, 1) if torgb else (TAPS * up, TAPS * down)
        total = (after.size - 1) * down + 1 - (before.size + kernel - 1) * up + up_taps + down_taps - 2
        low = (total + up) // 2
        pair = None
        if not torgb:
            pair = low_pass(up_taps, before, rate), (radial_low_pass if radial else low_pass)(down_taps, after, rate)
        filters.append(pair)
        layers.append(
            LayerPlan(
                name=f"L{i}_{after.size}_{after.channels}",
                in_channels=before.channels,
                out_channels=after.channels,
                kernel=kernel,
                up=up,
                down=down,
                padding=[low, total - low] * 2,
                up_filter=list(pair[0].shape) if pair else None,
                down_filter=list(pair[1].shape) if pair else None,
                out_size=[after.size] * 2,
                torgb=torgb,
            )
        )
    first = found[0]
    return InputPlan(first.channels, [first.size] * 2, first.rate, first.cutoff), layers, filters


def tables(
    resolution: int, kind: Literal["t", "r"], base: int, most: int, rgb: int = 3, depth: int = 14
) -> list[dict[str, Any]]:
    """The plan as config.json has it: the input, then every layer."""
    first, layers, _ = plan(resolution, kind, base, most, rgb, depth)
    return [asdict(first), *(asdict(layer) for layer in layers)]


def kaiser(taps: int, band: Band, rate: float) -> Tensor:
    """The window whose stop band begins twice the half width behind the cutoff (Kaiser's formula for beta)."""
    width = 2 * band.half_width / (rate / 2)
    attenuation = 2.285 * (taps - 1) * math.pi * width + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)


def low_pass(taps: int, band: Band, rate: float) -> Tensor:
    """[n], a windowed sinc of sum 1."""
    at = torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2
    filter_n = torch.sinc(band.cutoff / (rate / 2) * at) * kaiser(taps, band, rate)
    return (filter_n / filter_n.sum()).to(torch.get_default_dtype())


def radial_low_pass(taps: int, band: Band, rate: float) -> Tensor:
    """[n, n], a windowed jinc of sum 1: the same in all directions, as StyleGAN3-R needs."""
    at = (torch.arange(taps, dtype=torch.float64) - (taps - 1) / 2) / rate
    radius = torch.hypot(at[:, None], at[None])
    window = kaiser(taps, band, rate)
    filter_nn = torch.special.bessel_j1(2 * math.pi * band.cutoff * radius) / (math.pi * radius)
    filter_nn = filter_nn * torch.outer(window, window)
    return (filter_nn / filter_nn.sum()).to(torch.get_default_dtype())
