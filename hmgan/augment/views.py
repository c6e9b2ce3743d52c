"""Two augmented views of every image, for the contrastive losses. B batch, V = 2 views, P parameters."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from kornia.color import grayscale_to_rgb, rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_hue,
    adjust_saturation_with_gray_subtraction,
    solarize,
)
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from torch import Tensor, nn

from hmgan import ahead, host

ATTEMPTS = 10  # at a crop of a wanted area and aspect ratio that fits into the image
DRAWS = 2 * ATTEMPTS + 12  # uniform numbers per sample and view; new ones go to the end, or old views change


class ViewParams(NamedTuple):
    """What is done to each image; every field is [N], and the conditions hold 0 or 1."""

    scale_x: Tensor  # crop and flip: x' = scale_x x + shift_x, in pixels
    shift_x: Tensor
    scale_y: Tensor
    shift_y: Tensor
    brightness: Tensor  # factors, 1 changes nothing
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # radians
    threshold: Tensor  # pixels above it are inverted
    is_jittered: Tensor
    is_gray: Tensor
    is_blurred: Tensor
    is_solarized: Tensor


class Views(nn.Module):
    """Random crop and flip, colour jitter, grayscale, blur and solarisation, in this order.

    kornia does the pixels: crop, resize and flip are one bicubic warp (pixels as areas, the border repeated), and the
    jitter's four steps follow PIL's definitions. The parameters are drawn on the CPU from one generator per sample, so
    a sample's views depend on its key alone, whatever its batch, rank or device.

    Shapes: x_BCHW in [-1, 1], keys [B] -> two of [B, 3, H, W] in [-1, 1]. Values outside are clipped.
    Raises: ValueError if the images are not square RGB images, or keys and images differ in number.
    """

    crop_scale = (0.08, 1.0)  # least and greatest share of the image's area in a crop; uniform
    crop_ratio = (3 / 4, 4 / 3)  # least and greatest width / height of a crop; uniform in the logarithm
    flip = 0.5  # probability of a horizontal flip
    # Brightness, contrast and saturation are multiplied by 1 +- these; hue turns by +- the last, in circles.
    jitter = (0.4, 0.4, 0.2, 0.1)
    jitter_probability = 0.8  # of all four together
    gray = 0.2  # probability of grayscale
    blur = (0.5, 0.1)  # probability in the first and in the second view
    blur_kernel, blur_sigma = 3, 1.05  # pixels
    solarize = (0.0, 0.2)  # probability in the first and in the second view
    solarize_thresholds = (0.0, 0.5)  # least and greatest brightness above which pixels are inverted; uniform

    def forward(self, x_BCHW: Tensor, keys: Sequence[int]) -> tuple[Tensor, Tensor]:
        batch, channels, height, width = x_BCHW.shape
        if channels != 3 or height != width:
            raise ValueError(f"views need square RGB images [B, 3, H, H], got {list(x_BCHW.shape)}")
        if len(keys) != batch:
            raise ValueError(f"views need one key per image, got {len(keys)} keys for {batch} images")
        dtype = torch.promote_types(x_BCHW.dtype, torch.float32)
        params_VBP = ahead.drawn(self.drawn, keys, width, dtype, x_BCHW.device)
        params = ViewParams(*params_VBP.flatten(0, 1).unbind(-1))
        # Without autocast: bfloat16 would round every colour to 8 bits or fewer, several times over.
        with torch.autocast(x_BCHW.device.type, enabled=False):
            both = self.apply_params((x_BCHW.to(dtype) + 1).repeat(2, 1, 1, 1) / 2, params) * 2 - 1
        first, second = both.to(x_BCHW.dtype).chunk(2)
        return first, second

    def drawn(self, keys: Sequence[int], resolution: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The same parameters on the device."""
        return host.sent(self.draw(keys, resolution).to(dtype), device)

    def draw(self, keys: Sequence[int], resolution: int) -> Tensor:
        """The random parameters of both views, [V, B, P] on the CPU in the order of ViewParams' fields."""
        u_BVD = torch.stack([torch.rand(2, DRAWS, generator=_generator(key), dtype=torch.float64) for key in keys])
        area, ratio, rest = u_BVD.transpose(0, 1).split((ATTEMPTS, ATTEMPTS, 12), -1)
        x, y, flip, jittered, bright, contrast, saturation, hue, gray, blurred, solarized, threshold = rest.unbind(-1)
        w, h = self._crop_size(area, ratio, resolution)
        # Half a pixel in and out: pixels are areas, as in every resize, so the whole image maps onto itself.
        shift_x = (0.5 - torch.floor(x * (resolution - w + 1))) * resolution / w - 0.5
        shift_y = (0.5 - torch.floor(y * (resolution - h + 1))) * resolution / h - 0.5
        flipped = flip < self.flip
        amounts = torch.tensor(self.jitter, dtype=torch.float64)
        by_view = torch.tensor([self.blur, self.solarize], dtype=torch.float64)[..., None]  # [2 effects, V, 1]
        params = ViewParams(
            scale_x=torch.where(flipped, -1, 1) * resolution / w,
            shift_x=torch.where(flipped, resolution - 1 - shift_x, shift_x),
            scale_y=resolution / h,
            shift_y=shift_y,
            brightness=1 + amounts[0] * (2 * bright - 1),
            contrast=1 + amounts[1] * (2 * contrast - 1),
            saturation=1 + amounts[2] * (2 * saturation - 1),
            hue=2 * math.pi * amounts[3] * (2 * hue - 1),
            threshold=_between(self.solarize_thresholds, threshold),
            is_jittered=(jittered < self.jitter_probability).double(),
            is_gray=(gray < self.gray).double(),
            is_blurred=(blurred < by_view[0]).double(),
            is_solarized=(solarized < by_view[1]).double(),
        )
        return torch.stack(params, -1)

    def _crop_size(self, area_VBA: Tensor, ratio_VBA: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
        """Width and height [V, B] in whole pixels: the first attempt that fits, or else the whole image."""
        area = resolution**2 * _between(self.crop_scale, area_VBA)
        ratio = torch.exp(_between((math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])), ratio_VBA))
        w, h = torch.sqrt(area * ratio).round(), torch.sqrt(area / ratio).round()
        fits = (w >= 1) & (h >= 1) & (w <= resolution) & (h <= resolution)
        first = fits.int().argmax(-1, keepdim=True)

        def chosen(size: Tensor) -> Tensor:
            return torch.where(fits.any(-1), size.gather(-1, first).squeeze(-1), resolution)

        return chosen(w), chosen(h)

    def apply_params(self, x_NCHW: Tensor, params: ViewParams) -> Tensor:
        """Changes images in [0, 1] as `params` say."""
        conditions = (params.is_jittered, params.is_gray, params.is_blurred, params.is_solarized)
        is_jittered, is_gray, is_blurred, is_solarized = (c[:, None, None, None] > 0.5 for c in conditions)
        x = _crop(x_NCHW, params).clamp(0, 1)  # bicubic overshoots at edges
        x = torch.where(is_jittered, _jitter(x, params), x)
        x = torch.where(is_gray, grayscale_to_rgb(rgb_to_grayscale(x)), x)
        size, sigma = self.blur_kernel, self.blur_sigma
        x = torch.where(is_blurred, gaussian_blur2d(x, (size, size), (sigma, sigma)), x)
        return torch.where(is_solarized, solarize(x, params.threshold), x)


def _generator(key: int) -> torch.Generator:
    # Hashed: torch's CPU generator uses the low 32 bits of a seed only.
    digest = hashlib.sha256(f"views/{int(key)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def _between(limits: tuple[float, float], u: Tensor) -> Tensor:
    return limits[0] + (limits[1] - limits[0]) * u


def _crop(x: Tensor, p: ViewParams) -> Tensor:
    zero = torch.zeros_like(p.scale_x)
    rows = (p.scale_x, zero, p.shift_x, zero, p.scale_y, p.shift_y)
    matrix_N23 = torch.stack(rows, -1).view(-1, 2, 3)
    return warp_affine(
        x, matrix_N23, (x.shape[2], x.shape[3]), mode="bicubic", padding_mode="border", align_corners=True
    )


def _jitter(x: Tensor, p: ViewParams) -> Tensor:
    x = adjust_brightness_accumulative(x, p.brightness)
    x = adjust_contrast_with_mean_subtraction(x, p.contrast)
    x = adjust_saturation_with_gray_subtraction(x, p.saturation)
    return adjust_hue(x, p.hue)
