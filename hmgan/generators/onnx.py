"""Plain generators as ONNX, checked. B batch, Z latent, H/W pixels."""

from __future__ import annotations

import copy
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone

OPSET, TOLERANCE = 18, 1e-4  # of the images' deviation
INPUT, TRUNCATION, OUTPUT = "z", "truncation", "image"
NEEDED = ("onnx", "onnxscript", "onnxruntime")


class Drawer(nn.Module):
    """z [B, Z] and truncation [1] -> images [B, 3, H, W]: one noise for all, and the mean style, as constants."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.mapping = cast(nn.Module, backbone.mapping)
        latents = backbone.latents([0])
        for i, noise in enumerate(latents.noise):
            self.register_buffer(f"noise{i}", noise)
        self.blocks = len(latents.noise)
        with torch.no_grad():
            self.means = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in backbone.styles(latents, 0.0))

    def forward(self, z: Tensor, truncation: Tensor) -> Tensor:
        noise = tuple(self.get_buffer(f"noise{i}").expand(z.shape[0], -1, -1, -1) for i in range(self.blocks))
        w_BW = self.mapping(z)
        styles = [mean + truncation * (w_BW - mean) for mean in self.means]
        return self.backbone.synthesise(styles, noise).image


def check_onnx(backbone: Backbone) -> None:
    """Raises UserError where the extra is not installed, or the backbone is not one that is exported."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"--onnx needs {', '.join(missing)}; install hmgan[onnx]")
    if not isinstance(getattr(backbone, "mapping", None), nn.Module) or backbone.label_dim:
        raise UserError("--onnx is for StyleGAN's generator without labels of its own; leave --onnx out")


def save_onnx(backbone: Backbone, path: Path) -> float:
    """Writes the generator with any batch size and the truncation as an input.

    Returns the largest difference of onnxruntime's images from torch's, in deviations of the images.

    Raises: UserError where it is above 1e-4.
    """
    import onnxruntime

    drawer = Drawer(copy.deepcopy(backbone).cpu().float().eval()).eval().requires_grad_(False)
    dim = backbone.latents([0]).z.shape[1]
    z = torch.randn(2, dim, generator=torch.Generator().manual_seed(0))
    psi = torch.ones(1)
    batch = torch.export.Dim("batch", min=1)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators of packages that are not here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            drawer,
            (z, psi),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT, TRUNCATION],
            output_names=[OUTPUT],
            dynamic_shapes={"z": {0: batch}, "truncation": None},
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for count, truncation in ((1, 1.0), (3, 0.7)):
        z = torch.randn(count, dim, generator=torch.Generator().manual_seed(count))
        psi = torch.full((1,), truncation)
        (got,) = session.run(None, {INPUT: z.numpy(), TRUNCATION: psi.numpy()})
        with torch.no_grad():
            wanted = drawer(z, psi).numpy()
        worst = max(worst, float(np.abs(got - wanted).max() / wanted.std()))
    if worst > TOLERANCE:
        raise UserError(f"onnxruntime draws other images, by {worst:.1e} of their deviation; leave --onnx out")
    return worst
