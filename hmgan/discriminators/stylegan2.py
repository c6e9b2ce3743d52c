"""StyleGAN2's discriminator (Karras et al. 2020a), by its release's tensor names. B batch, C channels, F embedding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.backbones.stylegan2 import clamped, published_widths, start_size
from hmgan.components import register
from hmgan.discriminators.base import Discriminator
from hmgan.discriminators.deviation import StridedDeviation
from hmgan.discriminators.heads import LogitPerClass, MakeHead
from hmgan.discriminators.mapped_projection import mean_class
from hmgan.layers.equalized import leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.modulated import Linear
from hmgan.layers.resample import BINOMIAL, normalised_filter, resample
from hmgan.types import Count, Weight, Whole


class Conv2d(nn.Module):
    """An equalised convolution, filtered where it halves the resolution; with a bias, also activated and clamped."""

    filter_n: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        filter_n: Tensor,
        *,
        down: bool = False,
        bias: bool = True,
        gain: float = 1.0,
        clamp: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("filter_n", filter_n, persistent=False)
        # The activation's sqrt(2), and the block's gain, are taken before it: it is linear in positive factors.
        self.out_gain = gain * (math.sqrt(2) if bias else 1.0)
        self.gain = self.out_gain / math.sqrt(inputs * kernel**2)
        self.down, self.padding, self.clamp = down, kernel // 2, clamp * gain

    def forward(self, x: Tensor) -> Tensor:
        weight, pixelwise = self.weight * self.gain, self.weight.shape[-1] == 1
        padding, stride = self.padding, 1
        if self.down:
            n = len(self.filter_n)
            before, after = padding + (n - 1) // 2, padding + (n - 2) // 2
            # Of a 1x1, only the pixels that stay are filtered.
            x = resample(x, self.filter_n, down=2 if pixelwise else 1, pads=(before, after, before, after))
            padding, stride = 0, 1 if pixelwise else 2
        bias = None if self.bias is None else self.bias * self.out_gain
        y = F.conv2d(x, weight, bias, stride=stride, padding=padding)
        return y if bias is None else clamped(leaky_relu(y), self.clamp)


class DownBlock(nn.Module):
    """From RGB where the architecture has it here, two 3x3 of which the second halves the resolution, and the skip."""

    def __init__(self, rgb: int, inputs: int, outputs: int, filter_n: Tensor, architecture: str, clamp: float) -> None:
        super().__init__()
        residual = architecture == "resnet"
        gain = math.sqrt(0.5) if residual else 1.0
        self.fromrgb = Conv2d(rgb, inputs, 1, filter_n, clamp=clamp) if rgb else None
        self.conv0 = Conv2d(inputs, inputs, 3, filter_n, clamp=clamp)
        self.conv1 = Conv2d(inputs, outputs, 3, filter_n, down=True, gain=gain, clamp=clamp)
        self.skip = Conv2d(inputs, outputs, 1, filter_n, gain=gain, down=True, bias=False) if residual else None

    def forward(self, x: Tensor | None, image: Tensor) -> Tensor:
        if self.fromrgb is not None:
            own = self.fromrgb(image)
            x = own if x is None else x + own
        assert x is not None
        h = self.conv1(self.conv0(x))
        return h if self.skip is None else self.skip(x) + h


class LastBlock(nn.Module):
    """4 pixels: the deviation over groups, a 3x3 and a linear layer. [B, C, 4, 4] -> [B, F]."""

    def __init__(self, rgb: int, width: int, size: tuple[int, int], filter_n: Tensor, group: int, clamp: float) -> None:
        super().__init__()
        self.deviation = StridedDeviation(group)
        self.fromrgb = Conv2d(rgb, width, 1, filter_n, clamp=clamp) if rgb else None
        self.conv = Conv2d(width + 1, width, 3, filter_n, clamp=clamp)
        self.fc = Linear(width * size[0] * size[1], width)

    def forward(self, x: Tensor, image: Tensor, labels_B: Tensor, batches: int) -> Tensor:
        if self.fromrgb is not None:
            x = x + self.fromrgb(image)
        with unrounded(x):  # from the batch's statistics on: at 4 px this costs nothing
            h = self.conv(self.deviation(widened(x), labels_B, batches))
            return leaky_relu(self.fc(h.flatten(1))) * math.sqrt(2)


@register("discriminator", "stylegan2")
class StyleGAN2Discriminator(Discriminator):
    """Two 3x3 per resolution, residual or not, the deviation over strided groups, and a head.

    Tensors have the names of the PyTorch release, but for the last layer, b4.out, which is the head. StyleGAN3 is
    trained against it, too.

    Args:
        resolution: pixels of the longer side, a power of two from 8 to 1024.
        height: pixels, a multiple of resolution / 4; the resolution where left out.
        width: pixels, likewise.
        channels: width per resolution, 4 px first; min(16384 / pixels, 512) where left out, from 512 px on twice that.
        architecture: "resnet" has residual blocks, "skip" sees the image at every resolution, "orig" neither.
        stddev_group: samples per group of the deviation; 0 takes the whole batch.
        clamp: what no activation exceeds; 0 for no limit.
        filter: taps of the filter between resolutions; 1, 3, 3, 1 where left out.
        channels_in: of an image.

    Raises: UserError for a resolution, sides or widths that do not fit.
    """

    filter_n: Tensor

    def __init__(
        self,
        classes: int,
        make_head: MakeHead = LogitPerClass,
        *,
        resolution: Count = 256,
        height: Count | None = None,
        width: Count | None = None,
        channels: list[Count] | None = None,
        architecture: Literal["skip", "resnet", "orig"] = "resnet",
        stddev_group: Whole = 4,
        clamp: Weight = 0.0,
        filter: list[float] | None = None,
        channels_in: Count = 3,
    ) -> None:
        super().__init__()
        widths = published_widths(resolution, channels)
        start = start_size(resolution, height, width)
        self.mixes_batch, self.architecture = stddev_group == 0, architecture
        filter_n = normalised_filter(filter or BINOMIAL)
        self.register_buffer("filter_n", filter_n, persistent=False)
        everywhere = architecture == "skip"
        for i in range(len(widths) - 1, 0, -1):
            rgb = channels_in if everywhere or i == len(widths) - 1 else 0
            block = DownBlock(rgb, widths[i], widths[i - 1], filter_n, architecture, clamp)
            self.add_module(f"b{4 << i}", block)
        self.b4 = LastBlock(channels_in if everywhere else 0, widths[0], start, filter_n, stddev_group, clamp)
        self.head = make_head(widths[0], classes)

    @property
    def blocks(self) -> Sequence[DownBlock]:
        """The first down-sampling one first."""
        return [m for m in self.children() if isinstance(m, DownBlock)]

    @property
    def deviation(self) -> StridedDeviation:
        return self.b4.deviation

    def embeddings(self, images: Tensor, labels: Tensor, batches: int) -> Tensor:
        h: Tensor | None = None
        image = images
        for block in self.blocks:
            h = block(h, image)
            image = halved(image, self.filter_n) if self.architecture == "skip" else image
        assert h is not None
        return self.b4(h, image, labels, batches)

    def parts(self) -> Mapping[str, nn.Module]:
        """Its modules by name; `from_rgb` stands for all layers that see images, as in other discriminators."""
        seeing = [m for name, m in self.named_modules() if name.endswith(".fromrgb")]
        return {**super().parts(), "from_rgb": nn.ModuleList(seeing)}

    def load_source(self, state: Mapping[str, Tensor]) -> None:
        """Takes a state of this class, or one under the release's names.

        A state with classes is taken as it is by the head that it had, and by others as the mean of its classes.
        """
        state = of_release(state) if "b4.out.weight" in state else dict(state)
        old = {k.removeprefix("head."): v for k, v in state.items() if k.startswith("head.")}
        own = self.head.state_dict()
        fits = own.keys() == old.keys() and all(own[k].shape == v.shape for k, v in old.items())
        if "mapping.embed.weight" in old and not fits:
            rest = {k: v for k, v in state.items() if not k.startswith("head.")}
            state = {**rest, **{f"head.{k}": v for k, v in mean_class(old).items()}}
        super().load_source(state)


def halved(x: Tensor, filter_n: Tensor) -> Tensor:
    """Half the resolution. [B, C, 2H, 2W] -> [B, C, H, W]."""
    n = len(filter_n)
    before, after = (n - 1) // 2, (n - 2) // 2
    return resample(x, filter_n, down=2, pads=(before, after, before, after))


def of_release(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The release's last layer and mapping as a head. Its gain is 1 / sqrt(F), a head's sqrt(2 / F)."""
    rest = {k: v for k, v in state.items() if not k.startswith(("mapping.", "b4.out."))}
    mapping = {f"head.{k}": v for k, v in state.items() if k.startswith("mapping.")}
    row = {"head.weight": state["b4.out.weight"] / math.sqrt(2), "head.bias": state["b4.out.bias"]}
    return {**rest, **mapping, **row}
