"""R1: the gradient penalty on real images (Mescheder et al. 2018), applied lazily (Karras et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor


def r1_penalty(logit_B: Tensor, images_BCHW: Tensor) -> Tensor:
    """Mean over samples of |d D(x, c) / d x|^2, a scalar; `images` must require gradients."""
    (grad,) = torch.autograd.grad(logit_B.sum(), images_BCHW, create_graph=True)
    return grad.square().sum((1, 2, 3)).mean()


def gamma_heuristic(resolution: int, batch: int) -> float:
    """0.0002 * resolution^2 / batch, the usual starting point for gamma (Karras et al. 2020b)."""
    return 2e-4 * resolution**2 / batch
