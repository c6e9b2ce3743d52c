"""What would fail in the first step only, found before a run directory is made. Shapes alone: nothing is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from hmgan import components
from hmgan.config.experiment import Experiment
from hmgan.data.images import Shown
from hmgan.discriminators.patches import PatchDiscriminator
from hmgan.errors import UserError
from hmgan.generators.build import Networks
from hmgan.losses.base import GenPenalty, Transferred
from hmgan.losses.contrastive import Evidence
from hmgan.train.engines import choose
from hmgan.train.engines.base import Ranks
from hmgan.train.microbatches import part_batch
from hmgan.train.optim import freeze
from hmgan.train.tasks.learned_latents import LearnedLatents
from hmgan.types import DiscOut


def rehearse(experiment: Experiment, networks: Networks, ranks: Ranks, data: Shown | None) -> None:
    """Freezes D's parts and passes it a batch without content.

    Raises: UserError for a part of D that is not there, a batch that ranks, D or the contrastive loss cannot take, or
        images that cannot have a z each.
    """
    settings = experiment.train
    world = ranks.world
    batch, shares = part_batch(settings, world), world * settings.accumulate
    choose.check(experiment, ranks, networks.generator)
    if experiment.task == "pretrain" and networks.generator.backbone.batch_statistics:
        _check_whole_batch(world, shares)
    if experiment.task == "align":
        return
    if data is not None:
        data.check_readers(world, settings.workers)
    freeze(networks.discriminator, settings.freeze)
    # Somebody else's D need not know of this.
    if shares > 1 and experiment.adversary and getattr(networks.discriminator, "mixes_batch", False):
        raise UserError(
            f"D takes its minibatch deviation over the whole batch (stddev_group = 0), got one in {shares} shares, of "
            "ranks and train.accumulate, on which it would depend; import the source with --stddev-group 4"
        )
    if experiment.reconstruction is not None and data is not None:
        LearnedLatents(experiment.reconstruction, networks.generator.backbone, data, settings.seed)
        return
    out = shapes(networks, batch)
    held, backbone = experiment.gen_penalty, networks.generator.backbone
    if held is not None:
        parts = Transferred(backbone, networks.discriminator, backbone)
        penalty: GenPenalty = components.build("gen-penalty", held.name, parts, **held.options)
        if settings.batch < penalty.least:
            raise UserError(
                f"{held.name} needs {penalty.least} samples or more, got {settings.batch}; raise train.batch"
            )
    if experiment.anchors is not None:
        PatchDiscriminator(networks.discriminator, experiment.anchors.patch_blocks, settings.seed)
    choice = experiment.contrastive
    if choice is not None and out is not None:
        loss = components.build("contrastive", choice.name, **choice.options)
        logit_B, embedding_BF = torch.zeros(settings.batch), torch.zeros(settings.batch, out.embedding.shape[1])
        pair = embedding_BF, embedding_BF
        loss(Evidence(logit_B, logit_B, lambda: (pair, pair)))


def _check_whole_batch(world: int, shares: int) -> None:
    """Raises UserError where batch norms would see a part of the batch."""
    if world > 1:
        raise UserError(f"batch norms of this backbone see one rank's images, got {world} ranks; pretrain it on one")
    if shares > 1:
        why = f"batch norms of this backbone see one part's images, got train.accumulate = {shares}"
        raise UserError(f"{why}; leave it out")


def shapes(networks: Networks, batch: int) -> DiscOut | None:
    """D's output for one rank's batch, on the meta device; None where D has operations that it lacks."""
    network, resolution = networks.discriminator, networks.generator.resolution
    tensors: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    empty = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}
    images = torch.empty(batch, 3, resolution, resolution, device="meta")
    try:
        return functional_call(network, empty, (images, torch.zeros(batch, dtype=torch.long, device="meta")))
    except NotImplementedError:  # an operation without shapes of its own: the first step will check this D
        return None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"discriminator cannot take images of {resolution} px: {reason}; change its options") from None
