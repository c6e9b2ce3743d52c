"""One training command from its experiment to its run directory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from rich.console import Console

from hmgan import assemble
from hmgan.assemble import Generator
from hmgan.config import Choice, Experiment
from hmgan.data.shards import ShardSet
from hmgan.datasets import cache_folder, open_data
from hmgan.errors import UserError
from hmgan.evaluation import Judge
from hmgan.generators import SNAPSHOTS, save_conditional
from hmgan.modulation.transfer import TransferGenerator
from hmgan.report.images import grid, labelled_grid, save_png, to_uint8
from hmgan.sources import Source, load_source, save_source
from hmgan.train import checkpoint, rundir
from hmgan.train.log import RunLog
from hmgan.train.runtime import Runtime
from hmgan.train.trainer import CHECKPOINTS, Trainer

GRID_COLUMNS, GRID_SEED = 8, 2_000_000


class Prepared(NamedTuple):
    """All that a run needs, built and checked, before anything is written."""

    experiment: Experiment
    runtime: Runtime
    networks: assemble.Networks
    data: ShardSet | None
    classes: tuple[str, ...]
    source: Source | None


def prepare(experiment: Experiment, classes: tuple[str, ...] | None = None) -> Prepared:
    """Opens the data and builds the networks. Raises UserError for anything that does not fit; writes no run."""
    if experiment.train.threads:
        torch.set_num_threads(experiment.train.threads)
    runtime = Runtime(trackers=experiment.train.trackers)
    data = None
    if experiment.task != "align" or classes is None:
        with runtime.accelerator.main_process_first():  # rank 0 packs a registry set, the others find it there
            data = open_data(experiment.data)
        classes = data.classes if experiment.task != "pretrain" else ("all",)
    source = None if experiment.task == "pretrain" else load_source(str(experiment.source))
    networks = assemble.build(experiment, source, len(classes))
    resolution = networks.generator.resolution
    if data is not None and data.resolution != resolution:
        raise UserError(
            f"data {experiment.data} is {data.resolution} px and the generator {resolution} px; "
            f"pack it again with hmgan pack --resolution {resolution}"
        )
    if experiment.task == "align":
        data = None
    return Prepared(experiment, runtime, networks, data, classes, source)


def run(prepared: Prepared, folder: Path, resume: bool = False, console: Console | None = None) -> Path:
    """Trains in `folder`, which exists, and returns it."""
    experiment, runtime = prepared.experiment, prepared.runtime
    shown = folder if runtime.main else None
    runtime.track(folder)
    with RunLog(shown, experiment.train.kimg, console) as log:
        judge = make_judge(prepared)
        keeper = Keeper(prepared, folder, log, judge)
        trainer = Trainer(
            experiment, prepared.networks, runtime, prepared.data, len(prepared.classes), folder, keeper.snapshot
        )
        if resume:
            goes_on_from(trainer, folder, log)
        else:
            log.say(f"run      {folder}")
            log.say(opening_line(trainer))
            if prepared.data is not None and runtime.main:
                save_png(class_grid(first_images(prepared.data, prepared.classes)), folder / "reals.png")
        trainer.train(log)
        log.say(f"finished {folder}")
    runtime.accelerator.end_training()
    return folder


def goes_on_from(trainer: Trainer, folder: Path, log: RunLog) -> None:
    """Restores the newest checkpoint, if there is one, and cuts the logs back to it."""
    newest = checkpoint.newest(folder / CHECKPOINTS)
    if newest is not None:
        trainer.resume(newest)
    if log.folder is not None:
        for name in ("stats.jsonl", "metrics.jsonl"):
            rundir.drop_after(folder / name, trainer.kimg if newest is not None else -1.0)
    log.say(f"resumed  {folder} at kimg {trainer.kimg:.3f}")


def opening_line(trainer: Trainer) -> str:
    trained = sum(p.numel() for p in trainer.generator.trained.parameters())
    gamma, every = trainer.penalties.gamma, trainer.penalties.r1_every
    return (
        f"G trains {trained:,} parameters; batch {trainer.settings.batch} on {trainer.runtime.world} x "
        f"{trainer.runtime.device.type}; r1 gamma {gamma:.4g} every {every} steps"
    )


def make_judge(prepared: Prepared) -> Judge | None:
    """Scores at snapshots, where the experiment asks for them."""
    settings = prepared.experiment.evaluation
    if not settings.per_class or prepared.experiment.task == "align":
        return None
    with prepared.runtime.accelerator.main_process_first():
        reals = open_data(settings.data or prepared.experiment.data)
    if reals.classes != prepared.classes and prepared.experiment.task == "transfer":
        raise UserError(
            f"evaluation.data has classes {', '.join(reals.classes)}, training has {', '.join(prepared.classes)}; "
            "they must be the same, in the same order"
        )
    return Judge(reals, settings.extractor, cache_folder() / "features", prepared.runtime.device)


class Keeper:
    """What is kept at a snapshot: the averaged generator, its grid, and its scores."""

    def __init__(self, prepared: Prepared, folder: Path, log: RunLog, judge: Judge | None) -> None:
        self.prepared, self.folder, self.log, self.judge = prepared, folder, log, judge

    def snapshot(self, trainer: Trainer, kimg: float) -> None:
        if not self.prepared.runtime.main:
            return
        generator = trainer.averaged.eval()
        tag = f"{kimg:010.3f}"
        name = "fakes_init.png" if kimg == 0 else f"fakes{tag}.png"
        save_png(class_grid(fake_rows(generator, self.prepared.classes)), self.folder / name)
        if self.judge is not None:
            self._score(generator, tag, kimg)
        if kimg > 0:
            self._keep(trainer, generator, self.folder / SNAPSHOTS / tag, kimg)

    def _score(self, generator: Generator, tag: str, kimg: float) -> None:
        assert self.judge is not None
        settings = self.prepared.experiment.evaluation
        verdict = self.judge(generator, self.prepared.classes, settings.per_class, settings.seed)
        for score in verdict.scores:
            self.log.score({"kimg": kimg, "snapshot": tag, **score.line()})
            self.prepared.runtime.accelerator.log({f"{score.metric}/{score.cls}": score.value}, step=int(kimg))
        means = "  ".join(f"{s.metric} {s.value:.4g}" for s in verdict.scores if s.cls == "mean")
        self.log.say(f"scores   kimg {kimg:.3f}  {means}")
        for cls, ratio in verdict.diversity.items():
            if ratio < 0.5:
                text = f"class {cls} shows {ratio:.2f} of the real images' diversity; it may have collapsed"
                self.log.say(f"warning: {text}")

    def _keep(self, trainer: Trainer, generator: Generator, folder: Path, kimg: float) -> None:
        experiment, source = self.prepared.experiment, self.prepared.source
        notes = {"kimg": kimg, "experiment": experiment.summary, "data": experiment.data}
        if isinstance(generator, TransferGenerator):
            assert source is not None
            assert experiment.class_net is not None
            assert experiment.modulation is not None
            parts = {
                "backbone": Choice(**source.config["backbone"]),
                "class_net": experiment.class_net,
                "modulation": experiment.modulation,
            }
            origin = {"source": experiment.source, "source_sha256": source.digest}
            save_conditional(folder, generator, parts, self.prepared.classes, {**notes, **origin})
            return
        assert experiment.backbone is not None
        assert experiment.discriminator is not None
        save_source(
            folder,
            (experiment.backbone, generator.trained),
            (experiment.discriminator, trainer.discriminator),
            notes,
        )


@torch.no_grad()
def fake_rows(generator: Generator, classes: tuple[str, ...], columns: int = GRID_COLUMNS) -> dict[str, torch.Tensor]:
    """class -> [columns, 3, H, W] uint8; column j has the same latents in every row."""
    device = next(generator.parameters()).device
    count = columns if len(classes) > 1 else columns * columns
    latents = generator.latents(range(GRID_SEED, GRID_SEED + count))
    return {
        name: to_uint8(generator(latents, torch.full((count,), label, device=device)).image).cpu()
        for label, name in enumerate(classes)
    }


def first_images(data: ShardSet, classes: tuple[str, ...], columns: int = GRID_COLUMNS) -> dict[str, torch.Tensor]:
    """class -> the first images of each, uint8."""
    if len(classes) == 1:
        return {classes[0]: torch.stack([data[i][0] for i in range(min(columns * columns, len(data)))])}
    rows = {}
    for label, name in enumerate(classes):
        chosen = torch.nonzero(data.labels == label).flatten()[:columns].tolist()
        rows[name] = torch.stack([data[i][0] for i in chosen])
    return rows


def class_grid(rows: dict[str, torch.Tensor]) -> Image.Image:
    """One labelled row per class, or a square of images where there is one class."""
    scale = max(1, 64 // next(iter(rows.values())).shape[-1])
    if len(rows) > 1:
        return labelled_grid(rows, scale)
    (images,) = rows.values()
    large = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return grid(large, GRID_COLUMNS, pad=2 * scale)
