"""`hmgan centres`: where the images come from that D likes best of a class. B batch, K blocks, W style width."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hmgan import rng
from hmgan.commands.export import critic_of, of_class, origin_of
from hmgan.commands.sample import device_of
from hmgan.errors import UserError
from hmgan.generators.centres import CENTRES, write_centres
from hmgan.models.model import Model
from hmgan.options.models import CentresOptions

AT_ONCE = 32  # always whole: a D with a deviation of the minibatch judges images by their company


def keep_centres(options: CentresOptions) -> None:
    """Writes a centre of each class beside the model's weights.

    Raises: UserError for a model without classes, or one whose D is not there any more.
    """
    origin = origin_of(options.model)
    if origin.loaded.transfer is None:
        raise UserError(f"{options.model} has no classes to find centres of; give a transfer")
    critic = critic_of(origin)
    if critic is None:
        what = "has no discriminator, which ranks the images: no run with a checkpoint of the same kimg is around it"
        raise UserError(f"{options.model} {what}; give the run, or truncate towards the mean")
    model = Model(origin.loaded, device_of(options.device))
    draws = -(-options.draws // AT_ONCE) * AT_ONCE
    kept = max(1, round(draws * options.keep))
    found = {}
    for label, name in enumerate(model.classes):
        judge = of_class(*critic, label).to(model.device).eval()
        found[name] = centre(model, judge, label, draws, kept)
        print(f"{name}: the mean of the best {kept} of {draws}", flush=True)
    write_centres(origin.snapshot, found)
    print(origin.snapshot / CENTRES)


@torch.no_grad()
def centre(model: Model, judge: Any, label: int, draws: int, kept: int) -> Tensor:
    """[K, W], the mean over the styles of those images of a class that the judge gives the highest logits.

    Raises: UserError for a backbone whose blocks take styles of different widths.
    """
    logits, styles = [], []
    for first in range(0, draws, AT_ONCE):
        keys = [rng.key(seed, "centre", 0) for seed in range(first, first + AT_ONCE)]
        latents, labels_B = model.generator.latents(keys), torch.full((len(keys),), label, device=model.device)
        out = model.generator(latents, labels_B)
        if len({w.shape[1] for w in out.styles}) > 1:
            raise UserError("the blocks of this generator take styles of different widths, which have no one centre")
        logits.append(judge(out.image, torch.zeros_like(labels_B)).logit)
        # In the order in which they were computed, which for one class is that of the latents.
        styles.append(torch.stack(out.styles, 1))
    best = torch.cat(logits).topk(kept).indices
    return torch.cat(styles)[best].mean(0)
