"""The minibatch standard deviation (Karras et al. 2018). B batch, G groups of S samples, F channels and pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hmgan.errors import UserError

EPSILON = 1e-8  # under the root


class MinibatchDeviation(nn.Module):
    """Appends one channel: how much samples of a group differ. [B, C, H, W], labels [B] -> [B, C + 1, H, W].

    Args:
        group: samples per group; 0 takes the whole batch, as the port does.
    """

    within_class = False  # whether a sample is compared with those of its class alone

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor, labels_B: Tensor, batches: int) -> Tensor:
        if not self.within_class:
            return minibatch_stddev(x, self.group, batches)
        return class_stddev(x, labels_B, self.group, batches)


class StridedDeviation(MinibatchDeviation):
    """As StyleGAN2 has it: groups are strided. Within classes they are consecutive, as batches are made."""

    def forward(self, x: Tensor, labels_B: Tensor, batches: int) -> Tensor:
        if self.within_class:
            return super().forward(x, labels_B, batches)
        return strided_deviation(x, self.group, batches)


def minibatch_stddev(x: Tensor, group: int, batches: int = 1) -> Tensor:
    """Appends one channel: the standard deviation over each group of samples, averaged over everything else.

    Groups are consecutive samples, so that it does not matter how a global batch is split over ranks.

    Args:
        group: samples per group; 0 takes the whole batch, as the port does.
        batches: how many batches of one size x holds; no group spans two.
    Raises: UserError if a batch is not a whole number of groups.
    """
    total, channels, height, width = x.shape
    size = _group_size(total, group, batches)
    var = x.view(total // size, size, channels, height, width).var(1, correction=0)
    mean_G = (var + EPSILON).sqrt().mean((1, 2, 3))
    extra = mean_G.repeat_interleave(size)[:, None, None, None].expand(total, 1, height, width)
    return torch.cat([x, extra], 1)


def class_stddev(x: Tensor, labels_B: Tensor, group: int, batches: int = 1) -> Tensor:
    """As `minibatch_stddev`, over those samples of a group that are of the sample's own class.

    Over several classes the deviation hardly falls where each has collapsed to one image; within one it falls to zero.
    A sample alone of its class tells nothing, which must not look like a collapse: it has the mean of those of its
    group that are not alone, and in a group where all are, the deviation of the group.
    """
    total, _, height, width = x.shape
    size = _group_size(total, group, batches)
    x_GSF, labels_GS = x.reshape(total // size, size, -1), labels_B.view(-1, size)
    same_GSS = (labels_GS[:, :, None] == labels_GS[:, None, :]).to(x.dtype)
    share_GSS = same_GSS / same_GSS.sum(2, keepdim=True)
    var_GSF = share_GSS @ (x_GSF - share_GSS @ x_GSF).square()
    own_GS = (var_GSF + EPSILON).sqrt().mean(2)
    together_GS = same_GSS.sum(2) > 1
    count_G1 = together_GS.sum(1, keepdim=True)
    others_G1 = (own_GS * together_GS).sum(1, keepdim=True) / count_G1.clamp(min=1)
    mixed_G1 = (x_GSF.var(1, correction=0) + EPSILON).sqrt().mean(1, keepdim=True)
    value_GS = torch.where(together_GS, own_GS, torch.where(count_G1 > 0, others_G1, mixed_G1))
    return torch.cat([x, value_GS.reshape(total, 1, 1, 1).expand(total, 1, height, width)], 1)


def strided_deviation(x: Tensor, group: int, batches: int = 1) -> Tensor:
    """Appends one channel: the deviation over each group of samples, averaged over channels and pixels.

    With n groups, sample i is with i + n, i + 2 n, and so on, as the release has it.

    Args:
        group: samples per group, or the whole batch where that is smaller; 0 for the whole batch.
        batches: how many batches of one size x holds; no group spans two.

    Raises: UserError if a batch is not a whole number of groups.
    """
    batch = len(x) // batches
    size = min(group, batch) or batch
    grouped = x.unflatten(0, (batches, size, batch // _group_size(len(x), size, batches)))
    mean_Nn = (grouped.var(1, correction=0) + EPSILON).sqrt().mean((2, 3, 4))
    extra_B = mean_Nn[:, None].expand(-1, size, -1).flatten()
    return torch.cat([x, extra_B[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)


def _group_size(total: int, group: int, batches: int) -> int:
    batch = total // batches
    size = group or batch
    if batch % size:
        raise UserError(f"stddev_group {size} does not divide the batch of {batch}; change train.batch or stddev_group")
    return size
