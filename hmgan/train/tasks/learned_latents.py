"""Training without a discriminator: G draws every training image from a z that is the image's own.

Noguchi & Harada 2019, arXiv:1904.01774. N training images, B batch of this rank, Z latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam

from hmgan.config.settings import Reconstruction
from hmgan.data.images import Shown
from hmgan.data.order import indices
from hmgan.errors import UserError
from hmgan.generators.build import Generator
from hmgan.layers.backbone import Backbone
from hmgan.losses.feature_nets import FeatureNet
from hmgan.train.microbatches import Gather, Stats
from hmgan.train.precision import Mixed
from hmgan.train.tasks import gan
from hmgan.train.tasks.gan import Draws


class LearnedLatents(nn.Module):
    """A z per training image, all zero at first. A damaged image that is tolerated lends its to its substitute.

    Raises: UserError for more images than the settings allow, or a backbone whose z is more than numbers.
    """

    def __init__(self, settings: Reconstruction, backbone: Backbone, shown: Shown, seed: int) -> None:
        super().__init__()
        data = shown.indexed("reconstruction")
        if len(data) > settings.limit:
            raise UserError(
                f"reconstruction learns a z per image of at most {settings.limit} images, got {len(data)}; "
                "train on fewer images, or raise reconstruction.limit"
            )
        if backbone.old_classes():
            raise UserError(
                "reconstruction learns a z per image, and a part of this source's z is its class; "
                "use a source without classes"
            )
        self.z_NZ = nn.Parameter(torch.zeros(len(data), backbone.latents([0]).z.shape[1]))
        self._order = data.order(seed=seed)

    def forward(self, step: int, batch: int, rank: int, world: int) -> Tensor:
        """[B, Z] of the images that the loader gives this rank in a step."""
        return self.z_NZ[indices(self._order, step, batch_per_rank=batch, rank=rank, world=world)]


class Reconstructor:
    """What G and the images' z minimise, at rates that drop.

    Args:
        batch: global.
        mixed: around G's pass.
    """

    def __init__(
        self,
        settings: Reconstruction,
        latents: LearnedLatents,
        feature_net: FeatureNet | None,
        optimizer: Adam,
        batch: int,
        mixed: Mixed,
    ) -> None:
        self.settings, self.latents, self.feature_net = settings, latents, feature_net
        self._optimizer, self._batch, self._mixed = optimizer, batch, mixed
        optimizer.add_param_group({"params": list(latents.parameters()), "lr": settings.lr})
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def loss(
        self, generator: Generator, gather: Gather, real: Tensor, labels: Tensor, draws: Draws, kimg: float
    ) -> tuple[Tensor, Stats]:
        """A step's loss. Sets the step's learning rates, which are a function of kimg alone."""
        settings = self.settings
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * settings.drop ** (kimg // settings.drop_kimg)
        # A part of a rank's batch takes the images that a rank of that size would.
        shares = self._batch // draws.batch
        z_BZ = self.latents(draws.step, draws.batch, draws.first // draws.batch - draws.step * shares, shares)
        return gan.reconstruction_loss(
            generator, settings, self.feature_net, gather, real, labels, draws, z_BZ, self._mixed
        )
