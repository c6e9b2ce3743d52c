"""Training without a discriminator: G draws every training image from a z that is the image's own.

Noguchi & Harada 2019, arXiv:1904.01774. N training images, B batch of this rank, Z latent width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from hmgan import components, host, rng
from hmgan.components import register
from hmgan.data.images import Shown
from hmgan.data.order import indices
from hmgan.errors import UserError
from hmgan.layers.backbone import Backbone
from hmgan.losses.emd import earth_mover
from hmgan.losses.feature_nets import FeatureNet, feature_l1
from hmgan.train.draws import Microbatch
from hmgan.train.engines.base import Checkpointed
from hmgan.train.tasks.base import Gather, Phase, Setup, Stats, Task
from hmgan.train.tasks.gan_losses import weighed
from hmgan.types import Count, Positive, Share, Weight

DRAWS_PER_Z = 10  # samples of the normal distribution that the images' z are compared with
NO_DISCRIMINATOR = "has no discriminator to train"


class LearnedLatents(nn.Module):
    """A z per training image, all zero at first. The substitute of a damaged image takes the damaged one's.

    Raises: UserError for more images than `limit`, or a backbone whose z holds the class.
    """

    def __init__(self, limit: int, backbone: Backbone, shown: Shown, seed: int, batch: int) -> None:
        super().__init__()
        data = shown.indexed("reconstruction")
        if len(data) > limit:
            raise UserError(
                f"reconstruction learns a z per image of at most {limit} images, got {len(data)}; "
                "train on fewer images, or raise task.limit"
            )
        if backbone.old_classes():
            raise UserError(
                "reconstruction learns a z per image, and a part of this source's z is its class; "
                "use a source without classes"
            )
        self.z_NZ = nn.Parameter(torch.zeros(len(data), backbone.latents([0]).z.shape[1]))
        self._order = data.order(seed=seed, batch=batch)

    def forward(self, step: int, batch: int, rank: int, world: int) -> Tensor:
        """[B, Z] of the images that the loader gives this rank in a step."""
        shown_B = torch.tensor(indices(self._order, step, batch_per_rank=batch, rank=rank, world=world))
        return self.z_NZ[host.sent(shown_B, self.z_NZ.device)]


@register("task", "reconstruction")
class Reconstruction(Task):
    """BSA: each image against what G makes of its z, in pixels and features, and all z against a normal distribution.

    The paper's penalty on scales and shifts belongs to the modulation.

    Args:
        limit: training images at most; a z learns only when its image is shown.
        lr: learning rate of the images' z.
        spread: standard deviation of the noise on z.
        perceptual_weight: of the distance of features, where a feature_net is named.
        emd_weight: of the distance of z to a normal distribution.
        drop: every learning rate is multiplied by this after drop_kimg.
        drop_kimg: thousands of real images between drops.

    Raises: UserError for images that cannot have a z each.
    """

    excludes: ClassVar = {
        "backbone": "adapts a source, and has no use for a new backbone",
        "loader.mirror": "has one z for an image and its mirror image",
        **dict.fromkeys(
            ("discriminator", "contrastive", "regularizer", "augment", "gen_penalty", "players"), NO_DISCRIMINATOR
        ),
    }
    trains_same_parameters = False  # a z trains in the steps that show its image

    def __init__(
        self,
        setup: Setup,
        *,
        limit: Count = 5000,
        lr: Positive = 0.03,
        spread: Weight = 0.01,
        perceptual_weight: Weight = 1e-3,
        emd_weight: Weight = 0.1,
        drop: Share = 0.2,
        drop_kimg: Positive = 75.0,
    ) -> None:
        super().__init__(setup)
        self._lr, self._spread, self._drop, self._drop_kimg = lr, spread, drop, drop_kimg
        self._perceptual_weight, self._emd_weight = perceptual_weight, emd_weight
        assert setup.data is not None
        train = setup.experiment.train
        latents = LearnedLatents(limit, self.generator.backbone, setup.data, train.seed, train.batch)
        self.latents = latents.to(self.device)
        self.learner = nn.ModuleList([self.generator, self.latents])
        self.feature_net: FeatureNet | None = None
        if (choice := setup.experiment.feature_net) is not None:
            self.feature_net = components.build("feature-net", choice.name, **choice.options).to(self.device)

    def optimizer(self) -> Adam:
        optimizer = super().optimizer()
        optimizer.add_param_group({"params": list(self.latents.parameters()), "lr": self._lr})
        self._rates = [group["lr"] for group in optimizer.param_groups]
        return optimizer

    def kept(self) -> dict[str, Checkpointed]:
        return {**super().kept(), "latents": self.engine.kept(self.latents, frozenset())}

    def networks(self) -> dict[str, tuple[nn.Module, bool]]:
        return {**super().networks(), f"z of {len(self.latents.z_NZ):,} images": (self.latents, False)}

    def phases(self, step: int, microbatches: Sequence[Microbatch]) -> Iterator[Phase]:
        """Sets the step's learning rates first: a function of kimg alone, so that no checkpoint needs them."""
        kimg = step * self.experiment.train.batch / 1000
        for group, rate in zip(self.gen_optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._drop ** (kimg // self._drop_kimg)
        yield Phase("reconstruction", self.gen, self.loss, compares=True, average=self.ema)

    def loss(self, microbatch: Microbatch, gather: Gather) -> tuple[Tensor, Stats]:
        real, labels, draws = microbatch
        # Those that a rank of the microbatch's size would take.
        shares = self.experiment.train.batch // draws.batch
        z_BZ = self.latents(draws.step, draws.batch, draws.first // draws.batch - draws.step * shares, shares)
        latents = self.generator.latents(draws.keys("reconstruction"))
        with self.mixed():
            image = self.generator(latents._replace(z=z_BZ + self._spread * latents.z), labels).image
        terms = {"loss/image": (1.0, F.l1_loss(image, real))}
        if self.feature_net is not None:
            with torch.no_grad():
                wanted = self.feature_net(real)
            terms["loss/perceptual"] = (self._perceptual_weight, feature_l1(self.feature_net(image), wanted))
        width = z_BZ.shape[1]
        normal_rows = host.sent(rng.normal_rows(draws.keys("emd"), DRAWS_PER_Z * width), z_BZ.device)
        normal_MZ = gather(normal_rows.to(z_BZ.dtype)).view(-1, width)
        terms["loss/emd"] = (self._emd_weight, earth_mover(gather(z_BZ), normal_MZ))
        return weighed(terms | {name: (1.0, value) for name, value in self.generator.penalties().items()})
