"""What stays in float32 where networks compute in bfloat16, and how exact float32 products are on a GPU.

bfloat16 has 8 significant bits: enough for convolutions and activations, but not for statistics, styles, the tables
that edit weights, images, logits, embeddings and losses. Weights are made, edited and scaled in float32 and rounded
once, by the convolution that takes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor


def unrounded(x: Tensor) -> AbstractContextManager[object]:
    """No autocast on x's device: what is computed inside keeps the precision of its inputs."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def widened(x: Tensor) -> Tensor:
    """Casts x to float32 if it has fewer bits; more stay."""
    return x.float() if x.dtype.itemsize < 4 else x


@contextmanager
def products(*, tf32: bool) -> Iterator[None]:
    """Says whether float32 convolutions and matrix products on a GPU round their factors to 11 bits (TF32).

    By PyTorch's default convolutions do, and matrix products do not.
    """
    convolutions, matrices = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(matrices)
