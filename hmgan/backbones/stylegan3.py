"""StyleGAN3's generator (Karras et al. 2021), by its release's tensor names. B batch, C channels, W style width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.backbones.styled import StyledBackbone
from hmgan.backbones.stylegan3_plan import BASES, InputPlan, LayerPlan, plan
from hmgan.components import register
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.equalized import leaky_relu
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.mapping import Mapping, Tracking
from hmgan.layers.modulated import Linear, ModulatedConv2d
from hmgan.layers.resample import resample
from hmgan.layers.sites import WeightSite
from hmgan.types import Count, GenOut, Positive, Weight, Whole

BETA = 0.999  # of the running magnitude, per pass


class FourierInput(WeightSite):
    """Sines of fixed frequencies, moved and turned by w, and a linear map of them, to which a class may add.

    `transform` [3, 3] is the user's: it moves and turns what is drawn.
    """

    additive, axes = True, (1,)
    transform: Tensor
    freqs: Tensor
    phases: Tensor

    def __init__(self, name: str, of: InputPlan, w_dim: int) -> None:
        super().__init__(name)
        self.of, self.gain = of, 1 / math.sqrt(of.channels)
        self.weight = nn.Parameter(torch.randn(of.channels, of.channels))
        self.affine = Linear(w_dim, 4)
        with torch.no_grad():  # unmoved, unturned
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        freqs = torch.randn(of.channels, 2)
        radius = freqs.norm(dim=1, keepdim=True)
        # Uniform over the disc of the bandwidth, nearly.
        self.register_buffer("freqs", freqs / (radius * radius.square().exp() ** 0.25) * of.bandwidth)
        self.register_buffer("phases", torch.rand(of.channels) - 0.5)
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("bias", torch.empty(0), persistent=False)

    def forward(self, w_BW: Tensor, edits: Edits) -> Tensor:
        """[B, C, H, W]."""
        with unrounded(w_BW):
            waves_BHWC, edit = self.waves(w_BW), edits.weights.get(self.name)
            if edit is None:
                h = waves_BHWC @ self.effective_weight().T
            else:
                rows = zip(waves_BHWC.split(edits.counts), edit.weights(self.weight, self.bias)[0], strict=True)
                h = torch.cat([waves @ weight_CC.T for waves, weight_CC in rows])
        return h.permute(0, 3, 1, 2)

    def waves(self, w_BW: Tensor) -> Tensor:
        """[B, H, W, C], at the pixels' centres; what the turned grid could not show fades out."""
        t_B4 = self.affine(w_BW)
        turn_c, turn_s, right, down = (t_B4 / t_B4[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        zero, one = torch.zeros_like(turn_c), torch.ones_like(turn_c)
        turn = torch.stack([turn_c, -turn_s, zero, turn_s, turn_c, zero, zero, zero, one], 1).view(-1, 3, 3)
        move = torch.stack([one, zero, -right, zero, one, -down, zero, zero, one], 1).view(-1, 3, 3)
        whole_B33 = turn @ move @ self.transform
        phase_BC = self.phases + (self.freqs @ whole_B33[:, :2, 2:]).squeeze(2)
        freq_BC2 = self.freqs @ whole_B33[:, :2, :2]
        rate, band = self.of.sampling_rate, self.of.bandwidth
        amplitude_BC = (1 - (freq_BC2.norm(dim=2) - band) / (rate / 2 - band)).clamp(0, 1)
        x_W, y_H = ((torch.arange(n, device=w_BW.device).to(w_BW.dtype) + 0.5 - n / 2) / rate for n in self.of.size)
        across_BWC, along_BHC = x_W[:, None] * freq_BC2[:, None, :, 0], y_H[:, None] * freq_BC2[:, None, :, 1]
        angle_BHWC = across_BWC[:, None] + along_BHC[:, :, None] + phase_BC[:, None, None]
        return torch.sin(2 * math.pi * angle_BHWC) * amplitude_BC[:, None, None]


class Layer(ModulatedConv2d, Tracking):
    """A modulated convolution, bias, and a leaky ReLU at a higher rate between two low-pass filters."""

    tracked = ("magnitude_ema",)
    magnitude_ema: Tensor
    up_filter: Tensor
    down_filter: Tensor

    def __init__(self, name: str, of: LayerPlan, w_dim: int, filters: tuple[Tensor, Tensor] | None) -> None:
        super().__init__(
            name,
            of.in_channels,
            of.out_channels,
            w_dim,
            of.kernel,
            padding=of.kernel - 1,
            demodulate=not of.torgb,
            relative=True,
        )
        self.of = of
        self.register_buffer("magnitude_ema", torch.ones([]))
        shapes = {"up_filter": of.up_filter, "down_filter": of.down_filter}
        made = filters or tuple(None if shape is None else torch.zeros(*shape) for shape in shapes.values())
        for key, value in zip(shapes, made, strict=True):
            self.register_buffer(key, value)

    def activated(self, x: Tensor, w_BW: Tensor, edits: Edits) -> Tensor:
        """[B, I, H, W] -> [B, O, H', W']."""
        if self.training and torch.is_grad_enabled() and self.weight.requires_grad:
            with torch.no_grad():
                self.magnitude_ema.lerp_(widened(x).square().mean(), 1 - BETA)
        of = self.of
        # The activation's gain, before it: a leaky ReLU of more is more, and here it is a factor that is there anyway.
        gain = 1.0 if of.torgb else math.sqrt(2)
        y, bias_BO = self(x, w_BW, edits, self.magnitude_ema.rsqrt() * gain)
        y = y + (bias_BO * gain).to(y.dtype)[..., None, None]
        left, right, top, bottom = of.padding
        if of.up_filter is not None:
            y = resample(y, self.up_filter, up=of.up, pads=(left, right, top, bottom))
        if not of.torgb:
            y = leaky_relu(y)
        if of.clamp is not None:
            y = F.hardtanh(y, -of.clamp, of.clamp)  # a clamp whose gradient is one pass
        return y if of.down_filter is None else resample(y, self.down_filter, down=of.down)


class Synthesis(nn.Module):
    """The input, and layers L0_36_512, L1_36_512, ... by their names in files."""


@register("backbone", "stylegan3")
class StyleGAN3(StyledBackbone):
    """Fourier features, and modulated convolutions whose signals stay within their bands: T or R.

    Tensors have the names of the PyTorch release: synthesis.L0_36_512.affine.weight. There is no noise.

    Args:
        resolution: pixels of the longer side; a power of two from 8 to 1024 where layers are left out.
        z_dim: width of z.
        w_dim: width of w.
        mapping_layers: depth of the mapping network.
        mapping_lr_mult: of its learning rate, relative to all other layers.
        layers: the input and every layer, as an imported file has them; planned where left out.
        kind: "t", equivariant to translation, 3x3, or "r", to rotation too, 1x1; of a plan.
        channel_base: of a plan: channels are half of it, divided by the cutoff; 0 for the kind's own.
        channel_max: of a plan: the most channels; 0 for the kind's own.
        depth: of a plan: layers before to-RGB.
        channels_out: of an image; of a plan.
        label_dim: numbers of a class that the mapping takes beside z; 0 for none.
        output_scale: of the last layer's output.

    Raises: UserError for a resolution or layers that do not fit.
    """

    def __init__(
        self,
        *,
        resolution: Count = 256,
        z_dim: Count = 512,
        w_dim: Count = 512,
        mapping_layers: Whole = 2,
        mapping_lr_mult: Weight = 0.01,
        layers: list[dict[str, Any]] | None = None,
        kind: Literal["t", "r"] = "t",
        channel_base: Whole = 0,
        channel_max: Whole = 0,
        depth: Count = 14,
        channels_out: Count = 3,
        label_dim: Whole = 0,
        output_scale: Positive = 0.25,
    ) -> None:
        super().__init__()
        filters: Sequence[tuple[Tensor, Tensor] | None]
        if layers:
            first, rest = InputPlan.read(layers[0]), [LayerPlan.read(table) for table in layers[1:]]
            filters = [None] * len(rest)  # of the file, as its tensors
        else:
            base, most = BASES[kind]
            first, rest, filters = plan(
                resolution, kind, channel_base or base, channel_max or most, channels_out, depth
            )
        self.resolution, self.z_dim, self.label_dim = resolution, z_dim, label_dim
        self.output_scale, self.num_ws = output_scale, len(rest) + 1
        self.widths = tuple(layer.out_channels for layer in rest[:-1])
        self.mapping = Mapping(z_dim, label_dim, w_dim, mapping_layers, mapping_lr_mult, beta=0.998)
        self.synthesis = Synthesis()
        self.synthesis.add_module("input", FourierInput("synthesis.input", first, w_dim))
        for layer, pair in zip(rest, filters, strict=True):
            self.synthesis.add_module(layer.name, Layer(f"synthesis.{layer.name}", layer, w_dim, pair))
        self.plan = rest

    def maps(self) -> Sequence[tuple[int, int]]:
        return [(layer.out_channels, layer.out_size[0] * layer.out_size[1]) for layer in self.plan[:-1]]

    def noise_maps(self, keys: Sequence[int]) -> tuple[Tensor, ...]:
        return ()

    def synthesise(self, styles: Sequence[Tensor], noise: Sequence[Tensor] = (), edits: Edits = SOURCE) -> GenOut:
        parts: list[Any] = list(self.synthesis.children())
        first, *layers, to_rgb = parts
        h = first(styles[0], edits)
        features = []
        for layer, w_BW in zip(layers, styles[1:-1], strict=True):
            h = layer.activated(h, w_BW, edits)
            features.append(h)
        with unrounded(h):
            return GenOut(to_rgb.activated(widened(h), styles[-1], edits) * self.output_scale, tuple(features))
