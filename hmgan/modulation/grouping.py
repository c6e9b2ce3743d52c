"""A batch by its classes. B batch, R distinct classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hmgan import host


@dataclass(frozen=True, eq=False)
class Grouping:
    """The samples sorted by class: every site then sees its classes as consecutive samples."""

    classes_R: Tensor  # ascending, or by their counts
    counts: tuple[int, ...]  # samples of each
    order_B: Tensor  # the sample at each sorted place
    back_B: Tensor  # the sorted place of each sample

    @classmethod
    def of(cls, labels_B: Tensor, device: torch.device, by_count: bool = False) -> Grouping:
        """Of labels on the CPU, for tensors on the device; rarer classes first where it is by count."""
        classes_R, row_B, counts_R = labels_B.unique(return_inverse=True, return_counts=True)
        if by_count:
            order_R = counts_R.argsort(stable=True)
            classes_R, counts_R, row_B = classes_R[order_R], counts_R[order_R], order_R.argsort()[row_B]
        return cls(host.sent(classes_R, device), tuple(counts_R.tolist()), *sorting(row_B, device))


def sorting(rows_B: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The stable order of numbers on the CPU, and its inverse, on the device."""
    order_B = rows_B.argsort(stable=True)
    return host.sent(order_B, device), host.sent(order_B.argsort(), device)
