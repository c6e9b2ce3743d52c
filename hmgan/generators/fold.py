"""Folds one class's edits into the source's weights. C channels, S halves of a style (scale, shift)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.layers.backbone import Backbone
from hmgan.layers.edits import StyleEdit


@torch.no_grad()
def folded(generator: TransferGenerator, label: int) -> Backbone:
    """A backbone without edits that draws what the generator draws of one class, from the same latents.

    Weight edits replace weights. A style edit is affine in the scale and shift it is given, and they are in w: together
    one affine layer.

    Raises: UserError for edits that no weight of the backbone can express.
    """
    backbone = copy.deepcopy(generator.source)
    edits = generator.edits(torch.tensor([label], device=next(generator.parameters()).device))
    if edits.label_RL is not None:
        raise UserError("the class is an input of this generator's mapping and does not fold; leave --class out")
    sites, norms = backbone.sites(), backbone.norms()
    for name, weight_edit in edits.weights.items():
        layer = sites[name]
        weight_R, bias_R = weight_edit.weights(layer.weight, layer.bias)
        layer.weight.copy_(weight_R[0] / layer.gain)  # edits make weights as they act
        layer.bias.copy_(bias_R[0])
    for name, style_edit in edits.styles.items():
        norm = norms.get(name)
        if norm is None or norm.fold is None:
            raise UserError(f"{name} takes edits that do not fold into this backbone's weights; leave --class out")
        norm.fold(*as_affine(style_edit, norm.channels, next(norm.parameters())))
    return backbone


def as_affine(edit: StyleEdit, channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """M [C, S, S] and t [C, S] of an edit that is affine in each channel's scale and shift: its values at 0 and e_s."""
    scale_NC = like.new_tensor([0.0, 1.0, 0.0])[:, None].expand(-1, channels)
    shift_NC = like.new_tensor([0.0, 0.0, 1.0])[:, None].expand(-1, channels)
    at_NSC = torch.stack(edit.style(scale_NC, shift_NC, (3,)), 1)
    return (at_NSC[1:] - at_NSC[0]).permute(2, 1, 0), at_NSC[0].T
