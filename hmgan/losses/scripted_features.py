"""A feature network from a TorchScript file. B batch, C channels, H/W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from hmgan.components import register
from hmgan.errors import UserError
from hmgan.metrics.torchscript import load_torchscript


@register("feature-net", "torchscript")
class ScriptedFeatures(nn.Module):
    """Features of a TorchScript file, which is code that runs: only the file with this hash is loaded.

    Its interface: images [B, 3, H, W] in [-1, 1] -> a map [B, C, h, w], or a list or tuple of them. It does not train,
    and checkpoints do not hold it.

    Args:
        path: of the file; needed.
        sha256: of the file, 64 hexadecimal digits; needed.

    Raises: UserError where the file is missing, another one, or no TorchScript.
    """

    def __init__(self, *, path: str | None = None, sha256: str | None = None) -> None:
        super().__init__()
        if path is None or sha256 is None:
            raise UserError("feature-net torchscript is a file: path and sha256 are missing; name both")
        self.digest = sha256
        network = load_torchscript(Path(path), "feature-net torchscript", sha256).eval()
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        # In a list, so that it is no submodule: it has no part in states, optimisers and copies.
        self._held = [network]

    @property
    def network(self) -> nn.Module:
        """As it was loaded, and where the last images were."""
        return self._held[0]

    def forward(self, images_B3HW: Tensor) -> Sequence[Tensor]:
        if images_B3HW.is_meta:
            # As of an operation without a meta kernel: the preflight then leaves the shapes to the first step.
            raise NotImplementedError("a file's code has no shapes before it runs")
        maps = self.network.to(images_B3HW)(images_B3HW)
        maps = [maps] if isinstance(maps, Tensor) else list(maps)
        if not all(isinstance(each, Tensor) and each.ndim == 4 for each in maps):
            raise UserError("feature-net torchscript gives no maps [B, C, h, w]; take another file")
        return maps
