"""Slow and plain: what the papers' equations say, sample by sample and kernel by kernel.

Legend: R rows (distinct classes), O/I channels out and in, k kernel size, E class-vector width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.sites import SiteConv2d
from hmgan.modulation.adafm import AdaFMHeads, SiteHeads
from hmgan.modulation.class_nets import ClassMLP
from hmgan.types import Latents

DIM = 4


def head(layer: torch.nn.Module, v_E: Tensor, unit: float) -> Tensor:
    """unit * (sqrt(2 / E) * W v + b), Eq. 3 with an equalised learning rate."""
    return unit * (math.sqrt(2 / len(v_E)) * (layer.weight @ v_E) + layer.bias)


def modulated(weight_OIkk: Tensor, scale_OI: Tensor, shift_OI: Tensor, floor: float) -> Tensor:
    """Eq. 4, one kernel at a time: gamma * (W - mu) / (sigma + floor) + beta with the unbiased sigma of its taps."""
    out = torch.zeros_like(weight_OIkk)
    for o in range(weight_OIkk.shape[0]):
        for i in range(weight_OIkk.shape[1]):
            taps = weight_OIkk[o, i].flatten().tolist()
            mean = sum(taps) / len(taps)
            std = math.sqrt(sum((tap - mean) ** 2 for tap in taps) / (len(taps) - 1))
            out[o, i] = scale_OI[o, i] * (weight_OIkk[o, i] - mean) / (std + floor) + shift_OI[o, i]
    return out


def class_weight(conv: SiteConv2d, heads: SiteHeads, v_E: Tensor, epsilon: float = 1e-5) -> tuple[Tensor, Tensor]:
    """The kernels and biases of one class vector, Eqs. 3 to 5."""
    shape = conv.weight.shape[:2]
    scale, shift = (head(layer, v_E, conv.gain).view(shape) for layer in (heads.scale, heads.shift))
    weight = modulated(conv.weight.detach() * conv.gain, scale, shift, epsilon * conv.gain)
    return weight, conv.bias + head(heads.bias, v_E, 1.0)


def convolved(x_CHW: Tensor, weight_OIkk: Tensor, bias_O: Tensor, up: float) -> Tensor:
    """One image; up-sampling doubles every pixel first, and the averaged kernel is a quarter as large."""
    x = x_CHW[None]
    if up:
        x = up * F.interpolate(x, scale_factor=2, mode="nearest")
    return (F.conv2d(x, weight_OIkk, padding=1) + bias_O[:, None, None])[0]


def generator(
    classes: int = 3, *, init: str = "source", channels: tuple[int, ...] = (5, 4, 3), seed: int = 0, mlp_layers: int = 2
) -> TransferGenerator:
    """A tiny one in float64, with noise, styles and biases that are not at rest."""
    torch.manual_seed(seed)
    resolution = 2 << len(channels)
    source = StyleGAN1(resolution=resolution, channels=list(channels), z_dim=6, mapping_layers=2).double()
    for parameter in source.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    class_net = ClassMLP(classes, dim=DIM, layers=mlp_layers)
    modulation = AdaFMHeads(source, DIM, init=init)
    return TransferGenerator(source, class_net.double(), modulation.double())


def stir(network: torch.nn.Module, amount: float = 0.5) -> None:
    """Moves every trained parameter away from its start, so that classes differ."""
    torch.manual_seed(7)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += amount * torch.randn_like(parameter)


def latents(network: TransferGenerator, count: int, mixing: float = 0.5) -> Latents:
    drawn = network.latents(list(range(100, 100 + count)), mixing)
    return drawn._replace(z=drawn.z.double(), noise=tuple(n.double() for n in drawn.noise), z_mix=drawn.z_mix.double())


def sample(drawn: Latents, index: int) -> Latents:
    """One image's latents."""
    one = slice(index, index + 1)
    return Latents(drawn.z[one], tuple(n[one] for n in drawn.noise), drawn.z_mix[one], drawn.crossover_B[one])
