"""The released code's way of doing one iteration, with correct maths: what scripts/bench_step.py measures ours against.

Its costs are kept: the hypernetwork and a convolution's kernels once per sample, in one grouped convolution; the
equalised gain multiplied into the hypernetwork's weight; below 128 px nearest up-sampling before a convolution, and
in D a convolution followed by average pooling; gradients of D's step running through all of G into the class network;
R1 at every step; one backward per term; fakes made again for the contrastive views. Where its numbers are wrong (the
standardised bias, the fused kernel built before it is modulated), ours are computed: outputs and gradients agree.

Legend: B batch, O/I channels out and in, k kernel size, E class-vector width, H/W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.backbones.stylegan1 import FUSED, FUSED_FROM_PIXELS, Block, StyleGAN1
from hmgan.discriminators.deviation import minibatch_stddev
from hmgan.discriminators.heads import Head
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.equalized import he_gain, leaky_relu
from hmgan.layers.sites import SiteConv2d
from hmgan.losses.barlow_twins import redundancy
from hmgan.losses.r1 import r1_penalty
from hmgan.modulation.adafm import SiteHeads
from hmgan.train.draws import Draws
from hmgan.train.tasks.gan_losses import Penalties
from hmgan.types import DiscOut, Latents


def four_shifts(weight: Tensor) -> Tensor:
    """[..., k, k] -> [..., k+1, k+1]: the sum of a kernel's four one-pixel shifts."""
    padded = F.pad(weight, (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]


class ReleasedLinear(nn.Module):
    """Equalised linear layer that scales its weight. x [B, E] -> [B, outputs]."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())
        self.bias = nn.Parameter(bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * he_gain(self.weight.shape[1]), self.bias)


class ReleasedConv(nn.Module):
    """A modulated convolution of one kernel per sample, on the weights of our site and its heads.

    Shapes: x [B, I, H, W], v [B, E] -> [B, O, H, W], or [B, O, 2H, 2W].
    """

    bias: Tensor
    normal_OIkk: Tensor

    def __init__(self, conv: SiteConv2d, heads: SiteHeads) -> None:
        super().__init__()
        self.gain, self.up = conv.gain, conv.up
        self.register_buffer("bias", conv.bias.detach().clone(), persistent=False)
        self.register_buffer("normal_OIkk", heads.normal_OIkk.clone(), persistent=False)
        pair = (heads.scale, heads.shift)  # interleaved: the released head emits [B, O, I, 2]
        self.heads = ReleasedLinear(
            torch.stack([h.weight for h in pair], 1).flatten(0, 1), torch.stack([h.bias for h in pair], 1).flatten()
        )
        self.bias_head = ReleasedLinear(heads.bias.weight, heads.bias.bias)

    def forward(self, x: Tensor, v_BE: Tensor) -> Tensor:
        batch, (outputs, inputs, k, _) = len(x), self.normal_OIkk.shape
        scale_BOI11, shift_BOI11 = self.heads(v_BE).view(batch, outputs, inputs, 1, 1, 2).unbind(-1)
        weight_BOIkk = (scale_BOI11 * self.normal_OIkk + shift_BOI11) * self.gain
        if self.up == FUSED:
            kernel = four_shifts(weight_BOIkk.flip(3, 4)) * FUSED
            kernel = kernel.transpose(1, 2).reshape(batch * inputs, outputs, k + 1, k + 1)
            h = F.conv_transpose2d(_joined(x), kernel, stride=2, padding=1, groups=batch)
        else:
            x = F.interpolate(x, scale_factor=2, mode="nearest") if self.up else x
            h = F.conv2d(_joined(x), weight_BOIkk.view(batch * outputs, inputs, k, k), padding=1, groups=batch)
        return h.view(batch, outputs, *h.shape[2:]) + (self.bias + self.bias_head(v_BE))[..., None, None]


class ReleasedGenerator(nn.Module):
    """G(z, c) per sample. Shares the source and the class network with `ours`; the heads are copies.

    Shapes: latents of B samples, labels [B] -> images [B, 3, H, W].
    """

    def __init__(self, ours: TransferGenerator) -> None:
        super().__init__()
        source = ours.source
        assert isinstance(source, StyleGAN1)
        self.source, self.resolution = source, source.resolution
        sites, modulation = source.sites(), ours.trained["modulation"]
        heads = zip(modulation.names, modulation.heads, strict=True)
        self.names = modulation.names
        convs = nn.ModuleList(ReleasedConv(sites[name], head) for name, head in heads)
        self.trained = nn.ModuleDict({"class_net": ours.trained["class_net"], "convs": convs})

    def latents(self, keys: Sequence[int], mixing: float = 0.0) -> Latents:
        return self.source.latents(keys, mixing)

    def given(self) -> frozenset[str]:
        return frozenset()

    def forward(self, latents: Latents, labels_B: Tensor) -> Tensor:
        v_BE = self.trained["class_net"](labels_B)
        convs = dict(zip(self.names, self.trained["convs"], strict=True))
        h: Tensor | None = None
        for block, w_BW, noise in zip(self.source.blocks, self.source.styles(latents), latents.noise, strict=True):
            h = _block(block, convs, h, v_BE, w_BW, noise)
        return self.source.to_rgb(h)


def _block(
    block: Block, convs: dict[str, nn.Module], x: Tensor | None, v_BE: Tensor, w_BW: Tensor, noise_B1HW: Tensor
) -> Tensor:
    if block.conv1 is None:
        h = block.const.expand(len(w_BW), -1, -1, -1)
    else:
        h = block.blur(convs[block.conv1.name](x, v_BE))
    h = _adain(block.norm1.style(w_BW), leaky_relu(block.noise1(h, noise_B1HW)))
    h = leaky_relu(block.noise2(convs[block.conv2.name](h, v_BE), noise_B1HW))
    return _adain(block.norm2.style(w_BW), h)


def _adain(style_BS: Tensor, x: Tensor) -> Tensor:
    scale_BC11, shift_BC11 = style_BS[..., None, None].chunk(2, 1)
    return scale_BC11 * F.instance_norm(x) + shift_BC11


def _joined(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [1, B * C, H, W]."""
    return x.reshape(1, -1, *x.shape[2:])


class ReleasedDiscriminator(nn.Module):
    """Our discriminator's weights, the port's layers. images [B, 3, H, W], labels [B] -> logits and embeddings."""

    cpu_layout = torch.contiguous_format  # as the port has it

    def __init__(self, ours: StyleGAN1Discriminator) -> None:
        super().__init__()
        self.ours = ours

    @property
    def head(self) -> Head:
        return self.ours.head

    def parts(self) -> Mapping[str, nn.Module]:
        """By the names under which a benchmark freezes them."""
        return {f"ours.{name}": part for name, part in self.ours.parts().items()}

    def forward(self, images: Tensor, labels_B: Tensor) -> DiscOut:
        ours = self.ours
        h = ours.from_rgb(images)
        h = leaky_relu(h) if ours.rgb_activation else h
        for block in ours.blocks:
            conv, weight = block.conv2, block.conv2.weight * block.conv2.gain
            fused = h.shape[2] > FUSED_FROM_PIXELS // 2
            h = block.blur(leaky_relu(block.conv1(h)))
            if fused:
                h = F.conv2d(h, four_shifts(weight) / 4, conv.bias, stride=2, padding=1)
            else:
                h = F.avg_pool2d(F.conv2d(h, weight, conv.bias, padding=1), 2)
            h = leaky_relu(h)
        h = leaky_relu(ours.conv1(minibatch_stddev(h, ours.deviation.group)))
        embedding_BF = leaky_relu(ours.conv2(h)).flatten(1)
        return ours.head(embedding_BF, labels_B)


def _switch(optimizer: torch.optim.Optimizer, on: bool) -> None:
    """The gradients of what this optimiser trains."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(on)


def disc_step(
    generator: ReleasedGenerator,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    penalties: Penalties,
    real: Tensor,
    labels: Tensor,
    draws: Draws,
    mixing: float,
) -> None:
    """D's step: one backward per term; the class network is not detached, so two of them run through G."""
    _switch(optimizer, True)
    generator.trained["convs"].requires_grad_(False)
    optimizer.zero_grad()
    real = real.detach().requires_grad_(True)
    logit_B = discriminator(real, labels).logit
    F.softplus(-logit_B).mean().backward(retain_graph=True)
    (penalties.gamma / 2 * r1_penalty(logit_B, real)).backward()
    fake = generator(generator.latents(draws.keys("disc"), mixing), labels)
    F.softplus(discriminator(fake, labels).logit).mean().backward()
    for images, stream in (
        (real.detach(), "views-real"),
        (generator(generator.latents(draws.keys("again"), mixing), labels), "views-fake"),
    ):
        assert penalties.views is not None
        pair = penalties.views(images, draws.keys(stream))
        first_BF, second_BF = (discriminator(view, labels).embedding for view in pair)
        (penalties.contrastive.weight * redundancy(first_BF, second_BF, 5e-3)).backward()
    optimizer.step()


def gen_step(
    generator: ReleasedGenerator,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    labels: Tensor,
    draws: Draws,
    mixing: float,
) -> None:
    """G's step, which first drops what D's step left in the class network's gradients."""
    discriminator.requires_grad_(False)
    generator.trained["convs"].requires_grad_(True)
    optimizer.zero_grad()
    fake = generator(generator.latents(draws.keys("gen"), mixing), labels)
    F.softplus(-discriminator(fake, labels).logit).mean().backward()
    optimizer.step()
