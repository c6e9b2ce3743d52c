"""The GAN game: D and G against each other, with their further losses."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Adam

from hmgan import components
from hmgan.components import register
from hmgan.config.settings import Choice
from hmgan.errors import UserError
from hmgan.generators.transfer import TransferGenerator
from hmgan.losses.base import Evidence, GenPenalty, Transferred
from hmgan.losses.path_length import PathLength
from hmgan.losses.r1 import gamma_heuristic
from hmgan.train import optim
from hmgan.train.draws import Microbatch, microbatch_size
from hmgan.train.engines.base import Checkpointed, Engine, Trained
from hmgan.train.tasks.base import Phase, Setup, Task
from hmgan.train.tasks.disc_passes import Judge
from hmgan.train.tasks.gan_losses import Penalties, Rules, disc_loss, gen_loss
from hmgan.train.tasks.graphed import GraphedDisc, GraphedGenerator
from hmgan.train.tasks.judges import check_apart
from hmgan.train.tasks.players import Players
from hmgan.types import Count, DiscOut, Share, Weight

MANY_RANKS = 64  # above which sums of products, where a loss takes them, are fewer numbers than the rows of all ranks


@register("task", "gan")
class Gan(Task):
    """A phase of D and a phase of G in every step, Eqs. 8 and 9: transfer, fine-tuning and pretraining alike.

    Args:
        mixing: probability of style mixing.
        freeze: parts of D that do not train, by name; none where left out.
        within_class: D's minibatch deviation compares a sample with those of its own class alone. Take
            loader.stratified with loader.group of D's stddev_group, so that it has some.
        path_length: weight of path-length regularisation, of StyleGAN2's training; 0 for none.
        path_every: G steps between two of its penalties.

    Raises: UserError for a part that D lacks, or players, a penalty or a head that do not fit.
    """

    disc: Trained

    def __init__(
        self,
        setup: Setup,
        *,
        mixing: Share = 0.9,
        freeze: list[str] | None = None,
        within_class: bool = False,
        path_length: Weight = 0.0,
        path_every: Count = 4,
    ) -> None:
        super().__init__(setup)
        self.path = PathLength(path_length, path_every).to(self.device) if path_length else None
        if self.path is not None and not self.generator.backbone.style_per_layer:
            raise UserError("task.path_length is of backbones stylegan2 and stylegan3; leave it out")
        self.round = math.lcm(self.experiment.r1.every or 1, self.path.every if self.path else 1)
        optim.freeze(self.discriminator, freeze or [])
        if within_class:
            compare_within_classes(self.discriminator)
        choice, networks = self.experiment.players, (self.generator, self.discriminator, self.experiment.train.seed)
        self.players = Players(*networks)
        if choice is not None:
            self.players = components.build("players", choice.name, *networks, **choice.options)
        self.trains_same_parameters = self.players.trains_same_parameters
        self.critic = self.players.critic.to(self.device)
        # D's trained parameters are switched off in G's phase, so they are listed once, here.
        self._disc_parameters = [p for p in self.critic.parameters() if p.requires_grad]
        adversarial = self._chosen("adversarial", self.experiment.adversarial)
        augment = self._chosen("augment", self.experiment.augment)
        merge = self.experiment.compute.merge
        self.rules = Rules(adversarial, self.discriminator.head, mixing, augment, self.mixed, self.layout, merge)
        self.penalties = self._penalties()
        self.gen_penalty = self._gen_penalty()
        self._judges: tuple[Judge | None, Judge | None] = (None, None)  # graphs of D for its own phase and for G's
        self._draw: GraphedGenerator | None = None
        self._said: dict[str, bool] = {}  # each line of a penalty, and whether it is in the log
        beside = {"regularizer": self.penalties.regularizer, "augment": augment, "path": self.path}
        self._beside: dict[str, Any] = {name: module for name, module in beside.items() if module is not None}

    def phases(self, step: int, microbatches: Sequence[Microbatch]) -> Iterator[Phase]:
        """The fakes take the real batch's labels: D sees the same mixture of classes on both sides."""
        rules, penalties, penalty = self.rules, self.penalties, self.gen_penalty
        self._disc_trains(True)
        kimg = step * self.experiment.train.batch / 1000
        rules.head.at(kimg)
        opponents = self.players.opponents(step, kimg)
        in_disc, in_gen = (opponents._replace(judge=judge, draw=self._draw) for judge in self._judges)
        for parameter in opponents.frozen:
            parameter.requires_grad_(False)
        loss = partial(disc_loss, in_disc, rules, penalties)
        compares = getattr(rules.adversarial, "compares", True)  # another package's objective may not declare it
        adapts = rules.augment is not None and rules.augment.adapts
        yield Phase("D", self.disc, loss, compares or adapts or penalties.compares)
        self._disc_trains(False)
        path = self.path if self.path is not None and self.path.due(step) else None
        loss = partial(gen_loss, in_gen, rules, penalty, path, self._say)
        compares = compares or path is not None
        yield Phase("G", self.gen, loss, compares or (penalty is not None and penalty.least > 1), self.ema)

    def _disc_trains(self, on: bool) -> None:
        for parameter in self._disc_parameters:
            parameter.requires_grad_(on)

    def optimizer(self) -> Adam:
        every = 0 if self.path is None else self.path.every
        return optim.generator_optimizer(self.generator, self.experiment.optimizer, every)

    def start(self, engine: Engine) -> None:
        super().start(engine)
        experiment = self.experiment
        self.disc_optimizer = optim.discriminator_optimizer(self.critic, experiment.optimizer, experiment.r1.every)
        self.disc = engine.trained(self.critic, self.disc_optimizer, experiment.train.accumulate)
        if experiment.compute.graphs:  # of parameters where the engine has laid them
            self._capture()

    def _capture(self) -> None:
        """CUDA graphs: of D for its own phase, where its parameters train, and for G's; of G where counts are few."""
        experiment, side = self.experiment, self.generator.resolution
        size, batches = microbatch_size(experiment.train, self.setup.ranks.world), 6 if self.penalties.viewed else 2

        def images(count: int) -> Tensor:
            return self.rules.laid_out(torch.zeros(count, 3, side, side, device=self.device))

        self._disc_trains(True)
        in_disc = GraphedDisc(self.discriminator, images(batches * size), batches, self.mixed)
        self._disc_trains(False)
        in_gen = GraphedDisc(self.discriminator, images(size).requires_grad_(), 1, self.mixed)
        self._disc_trains(True)
        self._judges = in_disc, in_gen
        # Penalties on G read its blocks' outputs.
        few = experiment.loader.stratified and experiment.modulation is not None and self.gen_penalty is None
        if few and self.generator.backbone.static:
            self._draw = GraphedGenerator(cast(TransferGenerator, self.generator), self.mixed)

    def kept(self) -> dict[str, Checkpointed]:
        kept = {name: self.engine.kept(module, frozenset()) for name, module in self._beside.items()}
        critic = self.engine.kept(self.critic, frozenset())
        return {**super().kept(), "discriminator": critic, "disc_optimizer": self.disc, **kept}

    def stateful(self) -> list[nn.Module]:
        return [*super().stateful(), self.critic, *self._beside.values()]

    def networks(self) -> dict[str, tuple[nn.Module, bool]]:
        return {**super().networks(), "discriminator": (self.discriminator, False)}

    def news(self) -> list[str]:
        new = [line for line, logged in self._said.items() if not logged]
        self._said |= dict.fromkeys(new, True)
        return new

    def _say(self, line: str) -> None:
        self._said.setdefault(line, False)

    def summary(self) -> str:
        parts = [
            f"r1 gamma {self.penalties.gamma:.4g} every {self.penalties.r1_every} steps",
            self.generator.note,
            super().summary(),
        ]
        return "; ".join(filter(None, parts))

    def reads_weights(self) -> str:
        return super().reads_weights() or ("" if self.gen_penalty is None else "gen_penalty has a loss on them")

    def check(self) -> None:
        """Passes D a batch on the meta device: shapes alone, nothing is computed.

        Raises: UserError for a D that sees as a score does, or a batch that ranks, D, the contrastive loss or the
            penalty on G cannot take.
        """
        check_apart(self.discriminator)
        if self.experiment.compute.graphs and not self.trains_same_parameters:
            raise UserError(
                "compute.graphs is of networks that train whole in every step, and players change what trains; "
                "leave graphs out"
            )
        settings, ranks = self.experiment.train, self.setup.ranks
        shares = ranks.world * settings.accumulate
        # A D from another package may not declare it.
        if shares > 1 and getattr(self.discriminator, "mixes_batch", False):
            raise UserError(
                f"D takes its minibatch deviation over the whole batch (stddev_group = 0), got one in {shares} shares, "
                "of ranks and train.accumulate, on which it would depend; import the source with --stddev-group 4"
            )
        out = shapes(self.discriminator, microbatch_size(settings, ranks.world), self.generator.resolution)
        penalty, choice = self.gen_penalty, self.experiment.gen_penalty
        if penalty is not None and choice is not None and settings.batch < penalty.least:
            got = f"got {settings.batch}; raise train.batch"
            raise UserError(f"{choice.name} needs {penalty.least} samples or more, {got}")
        if self.penalties.contrastive is not None and out is not None:
            logit_B, embedding_BF = torch.zeros(settings.batch), torch.zeros(settings.batch, out.embedding.shape[1])
            pair = embedding_BF, embedding_BF
            self.penalties.contrastive(Evidence(logit_B, logit_B, lambda: (pair, pair)))

    def _penalties(self) -> Penalties:
        """D's penalties, with gamma resolved."""
        experiment, r1 = self.experiment, self.experiment.r1
        batch, resolution = experiment.train.batch, self.generator.resolution
        gamma = gamma_heuristic(resolution, batch) if r1.gamma == "auto" else float(r1.gamma)
        regularizer = self._chosen("regularizer", experiment.regularizer)
        if experiment.contrastive is None:
            return Penalties(gamma, r1.every, regularizer=regularizer)
        from hmgan.augment.views import Views  # kornia takes seconds to import, and only contrastive losses need it

        contrastive, ranks = self._chosen("contrastive", experiment.contrastive), self.setup.ranks
        # Microbatches take rows from a cache; a contrastive loss from another package may not declare what it takes.
        sums = ranks.world > MANY_RANKS and experiment.train.accumulate == 1 and getattr(contrastive, "by_sums", False)
        total = ranks.total if sums else None
        return Penalties(gamma, r1.every, contrastive, Views().to(self.device), regularizer, total)

    def _gen_penalty(self) -> GenPenalty | None:
        """Built before the first step: with copies of both networks, those of the source, where it asks for them."""
        choice = self.experiment.gen_penalty
        if choice is None:
            return None
        parts: list[Transferred] = []
        if components.get("gen-penalty", choice.name).copies:  # type: ignore[attr-defined]
            backbone = self.generator.backbone
            source = copy.deepcopy(backbone).requires_grad_(False)
            parts = [Transferred(source, copy.deepcopy(self.discriminator).requires_grad_(False), backbone)]
        return components.build("gen-penalty", choice.name, *parts, **choice.options)

    def _chosen(self, kind: str, choice: Choice | None) -> Any:
        """The component on the device; None where the experiment names none."""
        return None if choice is None else components.build(kind, choice.name, **choice.options).to(self.device)


def compare_within_classes(discriminator: nn.Module) -> None:
    """Raises UserError for a D without a minibatch deviation."""
    deviation = getattr(discriminator, "deviation", None)  # a D from another package may not declare it
    if deviation is None:
        raise UserError("task.within_class is of D's minibatch deviation, and this D has none; leave it out")
    deviation.within_class = True


def shapes(network: nn.Module, batch: int, resolution: int) -> DiscOut | None:
    """D's output for a batch, on the meta device; None where D has operations that it does not support."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    empty = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}
    images = torch.empty(batch, 3, resolution, resolution, device="meta")
    try:
        return functional_call(network, empty, (images, torch.zeros(batch, dtype=torch.long, device="meta")))
    except NotImplementedError:  # an operation without a meta kernel: the first step will check this D
        return None
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"discriminator cannot take images of {resolution} px: {reason}; change its options") from None
