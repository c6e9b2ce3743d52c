"""How far learned z are from draws of a normal distribution. N learned z, M draws, Z latent width."""

from __future__ import annotations

from torch import Tensor


def earth_mover(z_NZ: Tensor, drawn_MZ: Tensor) -> Tensor:
    """mean_i min_j |z_i - r_j|^2 + mean_j min_i |z_i - r_j|^2: every z near a draw, and every draw near a z.

    Noguchi & Harada 2019, arXiv:1904.01774, in place of the earth mover's distance, which would match them one to one.
    """
    squared_NM = z_NZ.square().sum(1)[:, None] - 2 * z_NZ @ drawn_MZ.T + drawn_MZ.square().sum(1)
    return squared_NM.amin(1).mean() + squared_NM.amin(0).mean()
