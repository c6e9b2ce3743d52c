"""What an iteration costs: (a) the released code's way, (b) ours, (c) the source without any modulation, the limit.

    python scripts/bench_step.py                             # 64 px, batch 8, 3 classes; about 40 minutes on two cores
    python scripts/bench_step.py --batch 32 --part generator
    python scripts/bench_step.py --part agree                # (a) and (b): outputs and gradients
    python scripts/bench_step.py --backbone stylegan2 --part site        # sites, against kernels per sample
    python scripts/bench_step.py --backbone stylegan3 --resolution 256 --part generator
    python scripts/bench_step.py --part operators --batch 32 --classes 3,28,102   # what a GPU's host has to launch

The variants take turns within one run and every number is a median, so that a busy machine disturbs all of them alike.
Peak memory is that of a process of its own. (c) trains the source's weights: the gradient by a convolution's weight is
part of any method, and without it (c) would skip a third of the work.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import psutil
import styled_reference
import torch
import typer
from released_reference import ReleasedConv, ReleasedDiscriminator, ReleasedGenerator, disc_step, gen_step
from rich.console import Console
from rich.table import Table
from row_c import CLASS_DIM, LAZY, experiment_of, generator_of, images_of, task_of, trainer_of, widths_of
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hmgan.backbones.stylegan1 import StyleGAN1
from hmgan.config.settings import Compute
from hmgan.discriminators.stylegan1 import StyleGAN1Discriminator
from hmgan.generators.build import Networks
from hmgan.generators.transfer import TransferGenerator
from hmgan.generators.unconditional import UnconditionalGenerator
from hmgan.layers.edits import SOURCE, Edits
from hmgan.layers.sites import SiteConv2d
from hmgan.modulation.adafm import SiteHeads
from hmgan.train.distributed.runtime import Runtime

RELEASED, OURS, SOURCE_ONLY = "(a) released", styled_reference.OURS, styled_reference.SOURCE_ONLY
PER_SAMPLE = styled_reference.PER_SAMPLE
CHANNELS = 512
Key = TypeVar("Key")


class Size(NamedTuple):
    """What is measured."""

    batch: int
    resolution: int
    classes: int
    threads: int
    channels: int = 0  # of every block; 0 takes the paper's

    def labels(self) -> Tensor:
        return torch.arange(self.batch) * self.classes // self.batch

    def source(self) -> StyleGAN1:
        return StyleGAN1(resolution=self.resolution, channels=widths_of(self.resolution, self.channels))

    def generator(self) -> TransferGenerator:
        return generator_of(self.classes, self.resolution, widths_of(self.resolution, self.channels))

    def discriminator(self) -> StyleGAN1Discriminator:
        widths = widths_of(self.resolution, self.channels)
        return StyleGAN1Discriminator(self.classes, resolution=self.resolution, channels=widths)


class Pace(NamedTuple):
    """How it is timed."""

    repeats: int
    clock: Callable[[], float]


class Row(NamedTuple):
    """One line of the table: a measure of every variant, and what is wanted of one ratio."""

    measure: str
    unit: str
    values: dict[str, float]
    limit: str  # the variant that ours is compared with
    wanted: float | None


def alternating(
    runs: Mapping[Key, Callable[[], object]], pace: Pace, after: Callable[[Key], object] = lambda _: None
) -> dict[Key, float]:
    """Median seconds of each, taking turns after one unmeasured turn."""
    seconds: dict[Key, list[float]] = {name: [] for name in runs}
    for turn in range(pace.repeats + 1):
        for name, run in runs.items():
            began = pace.clock()
            run()
            if turn:
                seconds[name].append(pace.clock() - began)
            after(name)
    return {name: statistics.median(times) for name, times in seconds.items()}


def keep_freed_memory() -> None:
    """Freed memory stays with this process, as a GPU's allocator keeps it: mapping it anew takes a third of ours."""
    if sys.platform == "linux":
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)  # never


def without_gradients(run: Callable[[], Tensor]) -> Callable[[], object]:
    return torch.no_grad()(run)


def with_backward(run: Callable[[], Tensor], network: nn.Module) -> Callable[[], object]:
    def both() -> None:
        network.zero_grad(set_to_none=True)
        y = run()
        y.backward(torch.ones_like(y))

    return both


# One site


def site_rows(size: Size, pace: Pace, pixels: int, released: bool) -> list[Row]:
    conv = SiteConv2d("site", CHANNELS, CHANNELS)
    heads = SiteHeads(conv.site(), CLASS_DIM, "align", 1e-5)
    x = torch.randn(size.batch, CHANNELS, pixels, pixels, requires_grad=True)
    v_RE = torch.randn(size.classes, CLASS_DIM, requires_grad=True)
    labels_B = size.labels()
    counts = tuple(torch.bincount(labels_B, minlength=size.classes).tolist())
    networks: dict[str, nn.Module] = {OURS: nn.ModuleList([heads]), SOURCE_ONLY: conv}
    runs: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: conv(x, Edits({"site": heads(v_RE)}, rows=size.classes, counts=counts)),
        SOURCE_ONLY: lambda: conv(x, SOURCE),
    }
    if released:
        reference = ReleasedConv(conv, heads)
        networks[RELEASED], runs[RELEASED] = reference, lambda: reference(x, v_RE[labels_B])
    name = f"site {CHANNELS}x{CHANNELS}, {pixels} px, batch {size.batch}"
    return _forward_and_backward(name, networks, runs, pace, (1.3, 1.5))


def generator_rows(size: Size, pace: Pace, released: bool) -> list[Row]:
    ours = size.generator()
    plain = UnconditionalGenerator(size.source())
    latents = ours.latents(list(range(size.batch)), 0.9)
    labels_B = size.labels()
    networks: dict[str, nn.Module] = {OURS: ours, SOURCE_ONLY: plain}
    runs: dict[str, Callable[[], Tensor]] = {
        OURS: lambda: ours(latents, labels_B).image,
        SOURCE_ONLY: lambda: plain(latents, labels_B).image,
    }
    if released:
        reference = ReleasedGenerator(ours)
        networks[RELEASED], runs[RELEASED] = reference, lambda: reference(latents, labels_B)
    name = f"generator, {size.resolution} px, batch {size.batch}"
    return _forward_and_backward(name, networks, runs, pace, (1.1, 1.15))


def _forward_and_backward(
    name: str,
    networks: dict[str, nn.Module],
    runs: dict[str, Callable[[], Tensor]],
    pace: Pace,
    wanted: tuple[float, float],
) -> list[Row]:
    forward = alternating({key: without_gradients(run) for key, run in runs.items()}, pace)
    both = alternating({key: with_backward(run, networks[key]) for key, run in runs.items()}, pace)
    return [
        Row(f"{name}, forward", "ms", _scaled(forward), SOURCE_ONLY, wanted[0]),
        Row(f"{name}, forward + backward", "ms", _scaled(both), SOURCE_ONLY, wanted[1]),
    ]


def _scaled(seconds: dict[str, float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in seconds.items()}


# StyleGAN2 and 3


def styled_site_rows(size: Size, pace: Pace, backbone: styled_reference.Styled, pixels: int, up: bool) -> list[Row]:
    """Against the frozen source, and against kernels per sample."""
    made = styled_reference.site(backbone, CHANNELS, pixels, up, size.labels(), CLASS_DIM)
    where = f"{pixels} -> {2 * pixels} px" if up else f"{pixels} px"
    name = f"{backbone}, site {CHANNELS}x{CHANNELS}, {where}, batch {size.batch}"
    bar = 1.8 if pixels * (1 + up) < 64 else 1.5
    rows = _forward_and_backward(name, made.networks, made.runs, pace, (1.25, bar))
    against = [row._replace(limit=styled_reference.PER_SAMPLE, wanted=0.6) for row in rows]
    return [*rows, *against]


def styled_generator_rows(size: Size, pace: Pace, backbone: styled_reference.Styled) -> list[Row]:
    made = styled_reference.generator(backbone, size.resolution, size.labels(), CLASS_DIM)
    name = f"{backbone}, generator, {size.resolution} px, batch {size.batch}"
    forward, both = _forward_and_backward(name, made.networks, made.runs, pace, (1.1, 1.15))
    return [forward._replace(wanted=None), both]


def styled_memory_row(size: Size, backbone: styled_reference.Styled) -> Row:
    peaks = {}
    for variant in (OURS, SOURCE_ONLY):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[variant] = pool.apply(styled_peak_gib, (variant, size, backbone))
    name = f"{backbone}, generator, {size.resolution} px, batch {size.batch}, peak memory"
    return Row(name, "GiB", peaks, SOURCE_ONLY, None)


def styled_peak_gib(variant: str, size: Size, backbone: styled_reference.Styled) -> float:
    """The peak of this process over a forward and a backward pass of G."""
    torch.set_num_threads(size.threads)
    made = styled_reference.generator(backbone, size.resolution, size.labels(), CLASS_DIM)
    with_backward(made.runs[variant], made.networks[variant])()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# A whole iteration: both Adam steps, the moving average, and Barlow Twins on two views of reals and fakes


class Iteration:
    """One training iteration of a variant; `penalised` says whether R1 takes part."""

    def __init__(self, variant: str, size: Size) -> None:
        torch.manual_seed(0)
        self.variant = variant
        experiment = experiment_of(size.batch, Compute(), "ours.from_rgb" if variant == RELEASED else "from_rgb")
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


def variants(released: bool) -> list[str]:
    return [RELEASED, OURS, SOURCE_ONLY] if released else [OURS, SOURCE_ONLY]


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
    peaks = {}
    for variant in variants(released):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[variant] = pool.apply(peak_gib, (variant, size))
    return Row(f"iteration, {size.resolution} px, batch {size.batch}, peak memory", "GiB", peaks, RELEASED, 0.75)


def peak_gib(variant: str, size: Size) -> float:
    """The peak of this process over an iteration without R1 and one with it."""
    torch.set_num_threads(size.threads)
    iteration = Iteration(variant, size)
    for penalised in (False, True):  # the first makes the optimisers' moments
        iteration(penalised)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# Whether (a) and (b) compute the same


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


def show(rows: list[Row], console: Console) -> None:
    names = [v for v in (RELEASED, PER_SAMPLE, OURS, SOURCE_ONLY) if any(v in row.values for row in rows)]
    table = Table(title="Medians of alternating turns; ratios are ours against the variant named")
    for column in ("measure", *names, "(a) ratio", "ours", "wanted"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for row in rows:
        cells = [
            f"{row.values[v]:.{3 if row.unit == 's' else 1}f} {row.unit}" if v in row.values else "-" for v in names
        ]
        table.add_row(row.measure, *cells, *_ratios(row))
    console.print(table)


def _ratios(row: Row) -> tuple[str, str, str]:
    against = row.limit[:3]
    if row.wanted is None:
        return "-", f"{row.values[OURS] / row.values[row.limit]:.2f} of {against}", "-"
    if row.limit not in row.values:
        return "-", "-", f"{row.wanted} of {against}"
    ratio = row.values[OURS] / row.values[row.limit]
    first = PER_SAMPLE if PER_SAMPLE in row.values else RELEASED
    other = SOURCE_ONLY if row.limit == first else first
    beside = f"{other[:3]} {row.values[other] / row.values[row.limit]:.2f}" if other in row.values else "-"
    met = ratio <= row.wanted
    return beside, f"[{'green' if met else 'red'}]{ratio:.2f} of {against}[/]", f"{row.wanted} of {against}"


def main(
    batch: Annotated[int, typer.Option(min=2)] = 8,
    resolution: int = 64,
    classes: Annotated[str, typer.Option(help="one number, or several for the operators alone: 3,28,102")] = "3",
    threads: Annotated[int, typer.Option(min=1)] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="measured turns of each variant")] = 7,
    clock: Annotated[
        Literal["wall", "cpu"], typer.Option(help="cpu counts our own work: one thread, busy machine")
    ] = "wall",
    backbone: Annotated[
        Literal["stylegan1", "stylegan2", "stylegan3"],
        typer.Option(help="of stylegan2 and 3: parts site, generator and memory, (a) a kernel per sample"),
    ] = "stylegan1",
    part: Literal["site", "generator", "iteration", "memory", "agree", "operators", "all"] = "all",
    site_pixels: Annotated[list[int] | None, typer.Option(help="where the site works; 16 and 32 if left out")] = None,
    released: Annotated[bool, typer.Option(help="measure (a) too; its memory grows by about 0.4 GiB a sample")] = True,
    file: Annotated[Path | None, typer.Option("--json", help="write the numbers here too")] = None,
) -> None:
    """Measures an iteration and its parts: the released code's way, ours, and the source alone."""
    torch.set_num_threads(threads)
    first, *_ = numbers = [int(number) for number in classes.split(",")]
    size, console, rows = Size(batch, resolution, first, threads), Console(), []
    pace = Pace(repeats, time.process_time if clock == "cpu" else time.perf_counter)
    wants = ["memory", "site", "generator", "iteration", "operators", "agree"] if part == "all" else [part]
    result: dict[str, Any] = {"size": size._asdict(), "torch": torch.__version__}
    if backbone != "stylegan1":
        styled_rows(size, pace, backbone, wants, site_pixels or [32, 64], rows)
        show(rows, console)
        write(file, result, rows)
        return
    if released and _available_gib() < (needed := 12 + 0.5 * batch):
        console.print(f"(a) does not fit: it wants about {needed:.0f} GiB beside ours, {_available_gib():.0f} are free")
        released = False
    if "memory" in wants:  # first: a child inherits the peak of its parent
        rows.append(memory_row(size, released))
    keep_freed_memory()
    if "site" in wants:
        for pixels in site_pixels or (16, 32):
            rows += site_rows(size, pace, pixels, released)
    if "generator" in wants:
        rows += generator_rows(size, pace, released)
    if "iteration" in wants:
        rows += iteration_rows(size, pace, released)
    if "operators" in wants:
        rows += [operators_row(size._replace(classes=number)) for number in numbers]
    if rows:
        show(rows, console)
    if "agree" in wants:
        result["agree"] = disagreement(size._replace(batch=min(batch, 4)))
        worst = max(result["agree"], key=result["agree"].__getitem__)
        console.print(f"(a) and (b) agree within {result['agree'][worst]:.1e} relative, worst in {worst}; wanted 1e-4")
    write(file, result, rows)


def styled_rows(
    size: Size, pace: Pace, backbone: styled_reference.Styled, wants: list[str], site_pixels: list[int], rows: list[Row]
) -> None:
    """What is measured of StyleGAN2 and 3; up-sampling sites, of StyleGAN2, end at the same sizes."""
    if "memory" in wants:  # first: a child inherits the peak of its parent
        rows.append(styled_memory_row(size, backbone))
    keep_freed_memory()
    if "site" in wants:
        for pixels in site_pixels:
            rows += styled_site_rows(size, pace, backbone, pixels, up=False)
            if backbone == "stylegan2":
                rows += styled_site_rows(size, pace, backbone, pixels // 2, up=True)
    if "generator" in wants:
        rows += styled_generator_rows(size, pace, backbone)
    if not rows:
        raise typer.BadParameter("of stylegan2 and 3 it is site, generator or memory", param_hint="--part")


def write(file: Path | None, result: dict[str, Any], rows: list[Row]) -> None:
    """The numbers as JSON, where a file was named."""
    if file is not None:
        table = result | {"rows": [row._asdict() for row in rows]}
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _available_gib() -> float:
    return psutil.virtual_memory().available / 2**30


if __name__ == "__main__":
    typer.run(main)
