"""StyleGAN2 and 3 from their tensors alone, slowly: zeros between pixels, one kernel per sample, loops over layers."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def linear(state, name, x, lr=1.0):
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return x @ (weight * lr / math.sqrt(weight.shape[1])).T + bias * lr


def lrelu(x):
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def unit(x):
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def upfirdn(x, filter_kk, up=1, down=1, pads=(0, 0, 0, 0), gain=1.0):
    """Stuffs, pads or crops, convolves by the flipped filter, drops pixels."""
    batch, channels, height, width = x.shape
    stuffed = x.new_zeros(batch, channels, height * up, width * up)
    stuffed[:, :, ::up, ::up] = x
    stuffed, turned = F.pad(stuffed, pads), (gain * filter_kk).flip(0, 1)
    rows, columns = (stuffed.shape[2 + i] - turned.shape[i] + 1 for i in (0, 1))
    out = x.new_zeros(batch, channels, -(-rows // down), -(-columns // down))
    for i in range(turned.shape[0]):
        for j in range(turned.shape[1]):
            out += turned[i, j] * stuffed[:, :, i : i + rows : down, j : j + columns : down]
    return out


def square_filter(taps):
    filter_n = torch.as_tensor(taps, dtype=torch.float64)
    filter_kk = torch.outer(filter_n, filter_n)
    return filter_kk / filter_kk.sum()


def mapped(state, z, layers, classes=None, lr=0.01, name="mapping"):
    parts = [unit(z)] if z is not None else []
    if classes is not None:
        parts.append(unit(linear(state, f"{name}.embed", classes)))
    x = torch.cat(parts, 1)
    for i in range(layers):
        x = lrelu(linear(state, f"{name}.fc{i}", x, lr))
    return x


def truncated(state, w, count, psi=1.0, cutoff=None):
    mean, cutoff = state["mapping.w_avg"], count if cutoff is None else cutoff
    return [mean + psi * (w - mean) if i < cutoff else w for i in range(count)]


def modulated(x, weight, style, demodulate, padding, up=False):
    """Every sample under its own kernel."""
    images = []
    for x_b, style_b, weight_b in zip(x, style, weight, strict=True):
        kernel = weight_b * style_b[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros between pixels, then the whole correlation of the turned kernel
            size = x_b.shape[1:]
            stuffed = x_b.new_zeros(len(x_b), 2 * size[0] - 1, 2 * size[1] - 1)
            stuffed[:, ::2, ::2] = x_b
            images.append(F.conv2d(stuffed[None], kernel.flip(2, 3), padding=2))
        else:
            images.append(F.conv2d(x_b[None], kernel, padding=padding))
    return torch.cat(images)


class Own:
    """What a sample's class makes of a layer: the source's tensors."""

    def __init__(self, state):
        self.state = state

    def weight(self, name, batch):
        return self.state[name].expand(batch, *self.state[name].shape)

    def bias(self, name, batch):
        return self.state[name].expand(batch, -1)

    def style(self, name, style):
        return style


def clamp(x, limit):
    return x.clamp(-limit, limit) if limit else x


def stylegan2(state, ws, noise, architecture, limit=0.0, taps=(1, 3, 3, 1), own=None):
    """The image, and every block's output."""
    own, batch, filter_kk = own or Own(state), len(ws[0]), square_filter(taps).to(ws[0])
    n = len(taps)
    noise = iter(noise)

    def layer(x, name, w, up, gain=1.0):
        style = own.style(f"{name}.affine", linear(state, f"{name}.affine", w))
        y = modulated(x, own.weight(f"{name}.weight", batch), style, True, 1, up)
        if up:
            before, after = (n + 1) // 2 - 1, (n - 2) // 2
            y = upfirdn(y, filter_kk, pads=(before, after, before, after), gain=4)
        y = y + state[f"{name}.noise_strength"] * next(noise)
        return clamp(lrelu(y + own.bias(f"{name}.bias", batch)[..., None, None]) * gain, limit * gain)

    def to_rgb(x, name, w):
        style = own.style(f"{name}.affine", linear(state, f"{name}.affine", w)) / math.sqrt(x.shape[1])
        y = modulated(x, own.weight(f"{name}.weight", batch), style, False, 0)
        return clamp(y + own.bias(f"{name}.bias", batch)[..., None, None], limit)

    def up(x):
        before, after = (n + 1) // 2, (n - 2) // 2
        return upfirdn(x, filter_kk, up=2, pads=(before, after, before, after), gain=4)

    blocks = sorted({int(k.split(".")[1][1:]) for k in state if k.startswith("synthesis.b")})
    image, x, at, features = None, own.weight("synthesis.b4.const", batch), 0, []
    for r in blocks:
        name = f"synthesis.b{r}"
        if r == 4:
            x, at = layer(x, f"{name}.conv1", ws[0], False), 1
        else:
            before = x
            x = layer(x, f"{name}.conv0", ws[at], True)
            x = layer(x, f"{name}.conv1", ws[at + 1], False, math.sqrt(0.5) if architecture == "resnet" else 1.0)
            at += 2
            if architecture == "resnet":
                skip = state[f"{name}.skip.weight"] / math.sqrt(before.shape[1])
                x = up(F.conv2d(before, skip)) * math.sqrt(0.5) + x
        features.append(x)
        if architecture == "skip" or r == blocks[-1]:
            rgb = to_rgb(x, f"{name}.torgb", ws[at])
            image = rgb if image is None else up(image) + rgb
    return image, features


def discriminator2(state, images, architecture, group, limit=0.0, classes=None, taps=(1, 3, 3, 1)):
    """Logits under the release's names."""
    filter_kk, n = square_filter(taps).to(images), len(taps)

    def conv(x, name, down=False, gain=1.0, act=True):
        weight = state[f"{name}.weight"] / math.sqrt(state[f"{name}.weight"][0].numel())
        padding = weight.shape[-1] // 2
        if down:
            before, after = padding + (n - 1) // 2, padding + (n - 2) // 2
            y = F.conv2d(upfirdn(x, filter_kk, pads=(before, after, before, after)), weight)[:, :, ::2, ::2]
        else:
            y = F.conv2d(x, weight, padding=padding)
        if not act:
            return y * gain
        return clamp(lrelu(y + state[f"{name}.bias"][:, None, None]) * gain, limit * gain)

    x, image = None, images
    root = math.sqrt(0.5) if architecture == "resnet" else 1.0
    for r in sorted({int(k.split(".")[0][1:]) for k in state if k.startswith("b")}, reverse=True):
        name = f"b{r}"
        if f"{name}.fromrgb.weight" in state:
            own = conv(image, f"{name}.fromrgb")
            x = own if x is None else x + own
        if r == 4:
            break
        y = conv(conv(x, f"{name}.conv0"), f"{name}.conv1", True, root)
        x = conv(x, f"{name}.skip", True, root, act=False) + y if architecture == "resnet" else y
        if architecture == "skip":
            before, after = (n - 1) // 2, (n - 2) // 2
            image = upfirdn(image, filter_kk, down=2, pads=(before, after, before, after))
    batch = len(x)
    size = min(group, batch)
    extra = torch.empty(batch, 1, *x.shape[2:], dtype=x.dtype)
    for i in range(batch):
        members = x[i % (batch // size) :: batch // size]
        extra[i] = (members.var(0, correction=0) + 1e-8).sqrt().mean()
    h = conv(torch.cat([x, extra], 1), "b4.conv").flatten(1)
    out = linear(state, "b4.out", lrelu(linear(state, "b4.fc", h)))
    if classes is None:
        return out[:, 0]
    return (out * mapped(state, None, 8, classes)).sum(1) / math.sqrt(out.shape[1])


def stylegan3(state, ws, first, layers, own=None, scale=0.25):
    """The image, and every layer's output; `first` and `layers` as config.json has them."""
    own, batch, name = own or Own(state), len(ws[0]), "synthesis.input"
    t = linear(state, f"{name}.affine", ws[0])
    images = []
    width, height = first["size"]
    rate, band = first["sampling_rate"], first["bandwidth"]
    kernels = own.weight(f"{name}.weight", batch)
    for t_b, kernel in zip(t / t[:, :2].norm(dim=1, keepdim=True), kernels, strict=True):
        c, s, dx, dy = t_b.tolist()
        turn, move = torch.eye(3).to(t), torch.eye(3).to(t)
        turn[0, 0], turn[0, 1], turn[1, 0], turn[1, 1] = c, -s, s, c
        move[0, 2], move[1, 2] = -dx, -dy
        m = turn @ move @ state[f"{name}.transform"]
        phases = state[f"{name}.phases"] + state[f"{name}.freqs"] @ m[:2, 2]
        freqs = state[f"{name}.freqs"] @ m[:2, :2]
        amplitudes = (1 - (freqs.norm(dim=1) - band) / (rate / 2 - band)).clamp(0, 1)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        grid = torch.stack([(x + 0.5 - width / 2) / rate, (y + 0.5 - height / 2) / rate], 2).to(t)
        waves = torch.sin(2 * math.pi * (grid @ freqs.T + phases)) * amplitudes
        images.append((waves @ (kernel / math.sqrt(len(kernel))).T).permute(2, 0, 1))
    h, features = torch.stack(images), []
    for layer, w in zip(layers, ws[1:], strict=True):
        name = f"synthesis.{layer['name']}"
        style = own.style(f"{name}.affine", linear(state, f"{name}.affine", w))
        weight = own.weight(f"{name}.weight", batch)
        if layer["torgb"]:
            y = modulated(h, weight, style / math.sqrt(h.shape[1]), False, 0)
        else:
            weight = weight / weight.square().mean((2, 3, 4), keepdim=True).sqrt()
            style = style / style.square().mean(1, keepdim=True).sqrt()
            y = modulated(h, weight, style, True, layer["kernel"] - 1)
        y = y / state[f"{name}.magnitude_ema"].sqrt() + own.bias(f"{name}.bias", batch)[..., None, None]
        if layer["torgb"]:
            h = y.clamp(-256, 256)
            break
        filters = []
        for key in ("up_filter", "down_filter"):
            filter_n = state[f"{name}.{key}"]
            filters.append(torch.outer(filter_n, filter_n) if filter_n.dim() == 1 else filter_n)
        up, down = layer["up"], layer["down"]
        y = upfirdn(y, filters[0], up=up, pads=tuple(layer["padding"]), gain=up**2)
        h = upfirdn(lrelu(y).clamp(-256, 256), filters[1], down=down)
        features.append(h)
    return h * scale, features
