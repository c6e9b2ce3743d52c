"""A source of ours as the state dict of others' code: tensors alone, no pickled objects.

stylegan2-ada-pytorch and stylegan3 have our names, and buffers of filters beside them; the StyleGAN2 PyTorch port has
names and shapes of its own.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.generators.source import load_source
from hmgan.importers.convert import import_checkpoint
from hmgan.importers.rosinality2 import MEAN, generator_pairs, noise_pairs
from hmgan.layers.backbone import Backbone
from hmgan.layers.resample import BINOMIAL, normalised_filter

ADA, ROSINALITY = "ada.safetensors", "rosinality.pt"
SEPARABLE = 8  # taps, from which on their code keeps a filter as one axis of it
TAKEN = f"G.load_state_dict(safetensors.torch.load_file({ADA!r}))"
CLOSE = 1e-5  # of the images' deviation


def check_layout(layout: str, backbone: Choice) -> None:
    """Raises UserError for a backbone that the code has not, or an option that it has no place for."""
    known = ("stylegan2", "stylegan3") if layout == "ada" else ("stylegan2",)
    if backbone.name not in known:
        raise UserError(f"--layout {layout} is for {' and '.join(known)}, got {backbone.name}; leave it out")
    if layout == "ada":
        return
    own, default = backbone.options, {"architecture": "skip", "channels_out": 3, "mapping_lr_mult": 0.01}
    wrong = [name for name, value in default.items() if own.get(name, value) != value]
    wrong += [name for name in ("height", "width", "label_dim", "filter") if own.get(name)]
    wrong += ["z_dim"] if own.get("z_dim", 512) != own.get("w_dim", 512) else []
    if wrong:
        raise UserError(f"the port has no place for another {', '.join(wrong)}; use --layout ada")


def save_layout(layout: str, folder: Path) -> str:
    """Writes a source's generator beside it; returns how it is loaded.

    Raises: UserError where the port would draw other images, for its code never clamps.
    """
    source = load_source(str(folder))
    choice, backbone = Choice(**source.config["backbone"]), source.backbone
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.state_dict().items()}
    if layout == "ada":
        save_file(state if choice.name == "stylegan3" else with_filters(state, choice), folder / ADA)
        return f"# Python, in a checkout of that code:\n{made_by(choice, backbone)}\n{TAKEN}"
    torch.save(as_port(state), folder / ROSINALITY)
    check_same(backbone, folder / ROSINALITY)
    sizes = f"{backbone.resolution}, {choice.options.get('w_dim', 512)}, {choice.options.get('mapping_layers', 8)}"
    taken = f"g.load_state_dict(torch.load({ROSINALITY!r}, weights_only=True)['g_ema'])"
    return f"# Python, in a checkout of that code:\ng = Generator({sizes})\n{taken}"


def with_filters(state: Mapping[str, Tensor], choice: Choice) -> dict[str, Tensor]:
    """StyleGAN2's state with the filter of every block, layer and skip, which that code keeps as buffers."""
    taps_n = normalised_filter(choice.options.get("filter") or BINOMIAL).float()
    kernel = taps_n if len(taps_n) >= SEPARABLE else torch.outer(taps_n, taps_n)
    layers = {name.rpartition(".")[0] for name in state if name.endswith((".noise_const", ".skip.weight"))}
    blocks = {".".join(name.split(".")[:2]) for name in layers}
    return {**state, **{f"{name}.resample_filter": kernel.clone() for name in sorted(layers | blocks)}}


def made_by(choice: Choice, backbone: Any) -> str:
    """The line that makes the network which takes the state."""
    if choice.name == "stylegan3":
        return "G = legacy.load_network_pkl(open('SOURCE.pkl', 'rb'))['G_ema']  # the source, or another of its shape"
    own, widths = choice.options, backbone.widths
    most, last = max(widths), widths[-1] * backbone.resolution
    if list(widths) != [min(last // (4 << i), most) for i in range(len(widths))]:
        return "G = legacy.load_network_pkl(open('SOURCE.pkl', 'rb'))['G_ema']  # the source, or another of its shape"
    synthesis = {"channel_base": last, "channel_max": most, "architecture": backbone.architecture}
    synthesis |= {"conv_clamp": backbone.clamp or None, "resample_filter": own.get("filter") or [1, 3, 3, 1]}
    mapping = {"num_layers": own.get("mapping_layers", 8), "lr_multiplier": own.get("mapping_lr_mult", 0.01)}
    sizes = f"{backbone.z_dim}, {backbone.label_dim}, {own.get('w_dim', 512)}, {backbone.resolution}"
    sizes += f", {own.get('channels_out', 3)}"
    return f"G = training.networks.Generator({sizes}, mapping_kwargs={mapping}, synthesis_kwargs={synthesis})"


def as_port(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the port's scripts read: g_ema, with its kernels, and the mean w."""
    depth = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in state)
    ups = sum(name.endswith(".conv0.weight") for name in state)
    pairs = [*generator_pairs(depth, ups), *noise_pairs(ups)]
    # All of its layouts are other shapes of the same numbers in the same order.
    theirs = {}
    for pair in pairs:
        ours = state[pair.ours]
        theirs[pair.theirs] = ours.reshape(pair.layout.theirs(tuple(ours.shape)))
    taps_n = normalised_filter(BINOMIAL).float()
    kernel = 4 * torch.outer(taps_n, taps_n)  # by the square of the factor
    for i in range(ups):
        theirs |= {f"convs.{2 * i}.conv.blur.kernel": kernel.clone(), f"to_rgbs.{i}.upsample.kernel": kernel.clone()}
    return {"g_ema": theirs, MEAN: state["mapping.w_avg"]}


@torch.no_grad()
def check_same(backbone: Backbone, path: Path) -> None:
    """Raises UserError unless the file, imported again, draws what the backbone draws."""
    with tempfile.TemporaryDirectory() as folder:
        import_checkpoint(path, Path(folder) / "back", report=lambda _: None)
        back = load_source(str(Path(folder) / "back")).backbone
    wanted, got = (each(each.latents(range(4))).image for each in (backbone, back))
    worst = float((wanted - got).abs().max() / wanted.std())
    if not math.isfinite(worst) or worst > CLOSE:
        raise UserError(f"the port, which never clamps, draws other images, by {worst:.1e} of their deviation; use ada")
