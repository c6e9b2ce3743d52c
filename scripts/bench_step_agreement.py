"""Whether the released code's way and ours compute the same, for bench_step.py."""

from __future__ import annotations

import torch
from bench_step_variants import Size
from released_reference import ReleasedDiscriminator, ReleasedGenerator
from torch import Tensor


def disagreement(size: Size, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Norm of the difference of (a) from (b) over that of (b): D's outputs, images and each part's gradients."""
    torch.manual_seed(0)
    ours = size.generator().to(dtype)
    for parameter in ours.parameters():  # a source and heads that are not at rest, so that every part matters
        parameter.data += 0.1 * torch.randn_like(parameter)
    released = ReleasedGenerator(ours)
    drawn = ours.latents(list(range(size.batch)), 0.9)
    latents = drawn._replace(
        z=drawn.z.to(dtype), noise=tuple(n.to(dtype) for n in drawn.noise), z_mix=drawn.z_mix.to(dtype)
    )
    labels_B = torch.randint(size.classes, (size.batch,), generator=torch.Generator().manual_seed(1))
    weight = torch.randn(size.batch, 3, size.resolution, size.resolution, dtype=dtype)
    class_net = list(ours.trained["class_net"].parameters())

    image = ours(latents, labels_B).image
    heads = list(ours.trained["modulation"].heads)
    own = [[h.scale.weight, h.scale.bias, h.shift.weight, h.shift.bias, h.bias.weight, h.bias.bias] for h in heads]
    grads = torch.autograd.grad((image * weight).sum(), [p for site in own for p in site] + class_net)
    theirs_image = released(latents, labels_B)
    convs = list(released.trained["convs"])
    theirs = [[c.heads.weight, c.heads.bias, c.bias_head.weight, c.bias_head.bias] for c in convs]
    their_grads = torch.autograd.grad((theirs_image * weight).sum(), [p for site in theirs for p in site] + class_net)

    discriminator = size.discriminator().to(dtype)
    own_disc = discriminator(image.detach(), labels_B)
    their_disc = ReleasedDiscriminator(discriminator)(image.detach(), labels_B)
    found = {
        "images": _relative(theirs_image, image),
        "logits": _relative(their_disc.logit, own_disc.logit),
        "embeddings": _relative(their_disc.embedding, own_disc.embedding),
    }
    for i, name in enumerate(released.names):
        scale, scale_bias, shift, shift_bias, bias, bias_bias = grads[6 * i : 6 * i + 6]
        both, both_bias, their_bias, their_bias_bias = their_grads[4 * i : 4 * i + 4]
        pairs = [
            (both[0::2], scale),
            (both_bias[0::2], scale_bias),
            (both[1::2], shift),
            (both_bias[1::2], shift_bias),
            (their_bias, bias),
            (their_bias_bias, bias_bias),
        ]
        found[f"heads of {name}"] = max(_relative(a, b) for a, b in pairs)
    ends = zip(their_grads[-len(class_net) :], grads[-len(class_net) :], strict=True)
    found["class network"] = max(_relative(a, b) for a, b in ends)
    return found


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().norm() / b.detach().norm())
