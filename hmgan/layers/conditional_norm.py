"""Class-conditional batch norm, as in BigGAN. B batch, N samples, E embedding width, W style width, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hmgan.layers.edits import Edits
from hmgan.layers.float32 import unrounded, widened
from hmgan.layers.spectral import normalised


class SiteConditionalNorm(nn.Module):
    """Scale 1 + P(c) + Z(z) and shift P'(c) + Z'(z) of a batch norm, linear in the style w = (embedding, part of z).

    Two things may be edited: the class's part alone, under `class_name`, and then the whole, under `name`. The
    statistics are the batch's in training, so that samples depend on each other, and the kept ones in evaluation.

    Shapes: x [B, C, H, W], w [B, W] -> [B, C, H, W].
    """

    fold: None = None  # no weights express an edit: its matrices are normalised at each use
    mean_C: Tensor
    var_C: Tensor

    def __init__(self, name: str, channels: int, embedding: int, z_dim: int) -> None:
        super().__init__()
        self.name, self.class_name = name, f"{name}.class"
        self.channels, self.embedding = channels, embedding
        self.scale = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, embedding + z_dim)))
        self.shift = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, embedding + z_dim)))
        self.register_buffer("mean_C", torch.zeros(channels))
        self.register_buffer("var_C", torch.ones(channels))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """The spectrally normalised matrices of the scale and of the shift, [C, W] each."""
        return normalised(self.scale), normalised(self.shift)

    def class_part(self, embedding_NE: Tensor) -> tuple[Tensor, Tensor]:
        """What embeddings add to the scale and to the shift, [N, C] each."""
        scale_CW, shift_CW = self.matrices()
        return embedding_NE @ scale_CW[:, : self.embedding].T, embedding_NE @ shift_CW[:, : self.embedding].T

    def style(self, w_NW: Tensor) -> Tensor:
        """Scale and shift [N, 2 C] of styles."""
        scale_CW, shift_CW = self.matrices()
        return torch.cat([1 + w_NW @ scale_CW.T, w_NW @ shift_CW.T], 1)

    def forward(self, x: Tensor, w_BW: Tensor, edits: Edits) -> Tensor:
        with unrounded(w_BW):
            scale_BC, shift_BC = self._style(w_BW, edits)
        edit = edits.styles.get(self.name)
        if edit is not None:
            scale_BC, shift_BC = edit.style(scale_BC, shift_BC, edits.counts)
        normal = F.batch_norm(widened(x), self.mean_C, self.var_C, None, None, self.training, 0.1, 1e-5)
        return torch.addcmul(shift_BC[..., None, None], normal, scale_BC[..., None, None]).to(x.dtype)

    def _style(self, w_BW: Tensor, edits: Edits) -> tuple[Tensor, Tensor]:
        scale_CW, shift_CW = self.matrices()
        edit = edits.styles.get(self.class_name)
        if edit is None:
            return 1 + w_BW @ scale_CW.T, w_BW @ shift_CW.T
        old_BE, z_BZ = w_BW.split([self.embedding, w_BW.shape[1] - self.embedding], 1)
        of_scale_BC, of_shift_BC = (old_BE @ matrix[:, : self.embedding].T for matrix in (scale_CW, shift_CW))
        scale_BC, shift_BC = edit.style(of_scale_BC, of_shift_BC, edits.counts)
        of_z_BC, shift_of_z_BC = (z_BZ @ matrix[:, self.embedding :].T for matrix in (scale_CW, shift_CW))
        return 1 + scale_BC + of_z_BC, shift_BC + shift_of_z_BC
