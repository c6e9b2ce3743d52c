"""A whole iteration for bench_step.py: both Adam steps, the moving average, Barlow Twins on two views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from bench_step_table import Row
from bench_step_timing import Pace, alternating, peak_gib
from bench_step_variants import RELEASED, SOURCE_ONLY, Size, variants
from released_reference import ReleasedDiscriminator, ReleasedGenerator, disc_step, gen_step
from row_c import LAZY, experiment_of, images_of, task_of, trainer_of
from torch.utils._python_dispatch import TorchDispatchMode

from hmgan.config.settings import Compute
from hmgan.generators.build import Networks
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.train.distributed.runtime import Runtime


class Iteration:
    """One training iteration of a variant; `penalised` says whether R1 takes part."""

    def __init__(self, variant: str, size: Size) -> None:
        torch.manual_seed(0)
        self.variant = variant
        frozen = "ours.from_rgb" if variant == RELEASED else "from_rgb"
        experiment = experiment_of(size.batch, Compute(merge=size.merge), frozen)
        ours = UnconditionalGenerator(size.source()) if variant == SOURCE_ONLY else size.generator()
        generator = ReleasedGenerator(ours) if variant == RELEASED else ours
        discriminator = size.discriminator()
        del ours
        pair = Networks(generator, ReleasedDiscriminator(discriminator) if variant == RELEASED else discriminator)
        runtime = Runtime()
        self.trainer = trainer_of(task_of(pair, experiment, size.classes, runtime), runtime)
        self.batch = images_of(size.batch, size.resolution, size.classes)

    def __call__(self, penalised: bool) -> None:
        self.trainer.step = 0 if penalised else 1
        if self.variant == RELEASED:
            self._released()
        else:
            self.trainer.take_step(self.batch)

    def rest(self) -> None:
        """Gives the gradients' memory to whichever variant comes next."""
        self.trainer.task.gen_optimizer.zero_grad()
        self.trainer.task.disc_optimizer.zero_grad()

    def _released(self) -> None:
        trainer = self.trainer
        draws, mixing = trainer.draws(), trainer.task.rules.mixing
        real, labels = self.batch.images / 127.5 - 1, self.batch.labels
        generator, discriminator = trainer.task.generator, trainer.task.discriminator
        disc_step(
            generator, discriminator, trainer.task.disc_optimizer, trainer.task.penalties, real, labels, draws, mixing
        )
        gen_step(generator, discriminator, trainer.task.gen_optimizer, labels, draws, mixing)
        trainer.task.ema.update()


def iteration_rows(size: Size, pace: Pace, released: bool) -> list[Row]:
    iterations = {variant: Iteration(variant, size) for variant in variants(released)}

    def turn(variant: str, penalised: bool) -> Callable[[], object]:
        return lambda: iterations[variant](penalised)

    turns = {(variant, True): turn(variant, True) for variant in iterations}
    turns |= {(variant, False): turn(variant, False) for variant in iterations if variant != RELEASED}
    seconds = alternating(turns, pace, lambda key: iterations[key[0]].rest())
    always = {variant: seconds[variant, True] for variant in iterations}
    lazy = {
        variant: (seconds[variant, True] + (LAZY - 1) * seconds.get((variant, False), seconds[variant, True])) / LAZY
        for variant in iterations
    }
    name = f"iteration, {size.resolution} px, batch {size.batch}"
    return [
        Row(f"{name}, R1 at every step", "s", always, RELEASED, 0.65),
        Row(f"{name}, R1 at one step in {LAZY}, (a) at every", "s", lazy, RELEASED, 0.45),
    ]


class Counted(TorchDispatchMode):
    """Counts the operators that compute or allocate; views cost nothing."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def operators_row(size: Size) -> Row:
    """Of an iteration without R1, at 8 channels: widths change no operator. Labels are drawn, as a batch's are."""
    values, size = {}, size._replace(channels=8)
    labels = torch.randint(size.classes, (size.batch,), generator=torch.Generator().manual_seed(0))
    for variant in variants(released=False):
        iteration = Iteration(variant, size)
        iteration.batch = iteration.batch._replace(labels=labels)
        iteration(penalised=False)  # makes the optimisers' moments
        with Counted() as counted:
            iteration(penalised=False)
        values[variant] = float(counted.count)
    name = f"operators, batch {size.batch}, {len(labels.unique())} of {size.classes} classes in it"
    return Row(name, "", values, SOURCE_ONLY, None)


def memory_row(size: Size, released: bool) -> Row:
    """Of an iteration without R1 and one with it."""
    peaks = {variant: peak_gib(size.threads, _both_kinds, variant, size) for variant in variants(released)}
    return Row(f"iteration, {size.resolution} px, batch {size.batch}, peak memory", "GiB", peaks, RELEASED, 0.75)


def _both_kinds(variant: str, size: Size) -> None:
    iteration = Iteration(variant, size)
    for penalised in (False, True):  # the first makes the optimisers' moments
        iteration(penalised)
