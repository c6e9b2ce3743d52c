"""`hmgan classes MODEL add`: a class is trained on top of another, or of the source, and joined to a model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from hmgan.commands.export import export
from hmgan.config.experiment import Experiment
from hmgan.config.loading import load_experiment
from hmgan.config.settings import Choice
from hmgan.data.named import open_data
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError, some_of, unknown
from hmgan.generators.joining import check_name, count_of, joined_of, save, state_of
from hmgan.generators.snapshot import SNAPSHOTS, Loaded, generator_folder, load_generator
from hmgan.generators.source import (
    CONFIG,
    DISCRIMINATOR,
    GENERATOR,
    load_source,
    read_config,
    read_tensors,
    save_source,
    write,
)
from hmgan.metrics.networks import load_extractor
from hmgan.modulation.joined import SOURCE_START
from hmgan.options.models import ClassesOptions, ExportOptions
from hmgan.options.training import TrainOptions
from hmgan.pictures.class_images import drawn_by_keys
from hmgan.train import rundir
from hmgan.train.command import train

NEAREST, SOURCE = "nearest", "source"
LOOKED_AT = 64  # images of a class, to find the nearest


def add(options: ClassesOptions, out: Path, loaded: Loaded, place: Path) -> None:
    """Trains a class and joins it; of a run that has trained one, joins it alone."""
    if (place / rundir.CONFIG).is_file() and (place / SNAPSHOTS).is_dir():
        run = place
    else:
        shards, source = out.with_name(f"{out.name}-data"), out.with_name(f"{out.name}-start")
        check_own(load_experiment(options.experiment, options.overrides), options.experiment)
        with taken_back((shards, source), options.outdir):
            run = trained(options, loaded, packed(place, shards, loaded), source)
    join(out, options.model, loaded, run)


@contextmanager
def taken_back(made: Sequence[Path], outdir: Path) -> Iterator[None]:
    """Removes these folders after a mistake that no run was begun before: the next try makes them anew.

    Raises: UserError for one that is there already, whose it is nobody knows.
    """
    for folder in made:
        if folder.exists():
            raise UserError(f"{folder} exists already and would be written to; give another --out, or move it away")
    runs = set(outdir.glob("*"))
    try:
        yield
    except BaseException:
        if set(outdir.glob("*")) == runs:
            for folder in made:
                shutil.rmtree(folder, ignore_errors=True)
        raise


def trained(options: ClassesOptions, loaded: Loaded, data: Path, folder: Path) -> Path:
    """The run of a class on a source that is made for it."""
    (name,) = open_data(str(data)).classes
    check_name(name, loaded.classes)
    start = start_of(options.start, loaded, data)
    source = start_folder(options.model, loaded, start, folder)
    print(f"{name} starts from {'the source' if start == SOURCE_START else loaded.classes[start]}", flush=True)
    return train(
        TrainOptions(
            experiment=options.experiment,
            outdir=options.outdir,
            data=[str(data)],
            source=str(source),
            kimg=options.kimg,
            metrics=options.metrics,
            seed=options.seed,
            overrides=options.overrides,
        )
    )


def join(out: Path, model: Path, loaded: Loaded, run: Path) -> None:
    """Writes the model with the class of a run behind its own. Raises UserError for a run of something else."""
    new, snapshot = load_generator(run), generator_folder(run)
    start = started_from(new)
    if new.transfer is None or start is None or len(new.classes) != 1 or start >= count_of(loaded.config):
        raise UserError(f"{run} is no run of hmgan classes {model} add; give its images, or the run that it made")
    check_own(rundir.read_config(run), str(run))
    (name,) = new.classes
    check_name(name, loaded.classes)
    config = joined_of(loaded.config, list(range(len(loaded.classes))))
    options, place = config["modulation"], len(config["modulation"]["added"])
    part = {"start": start, "class_net": new.config["class_net"], "modulation": new.config["modulation"]}
    options["added"], options["kept"] = [*options["added"], part], [*options["kept"], options["old"] + place]
    state, own = state_of(loaded, generator_folder(model)), read_tensors(snapshot / GENERATOR)
    for mine, its in (("net", "class_net"), ("heads", "modulation")):
        before = f"trained.{its}."
        added = {key.removeprefix(before): x for key, x in own.items() if key.startswith(before)}
        state |= {f"trained.modulation.added.{place}.{mine}.{key}": x for key, x in added.items()}
    save(out, loaded, config, [*loaded.classes, name], state, {**loaded.centres, **new.centres})
    print(f"{out}: {some_of((*loaded.classes, name))}")


def check_own(experiment: Experiment, name: str) -> None:
    """Raises UserError where more would train than what a class has for itself: no other class may notice."""
    if experiment.train.unedited or experiment.train.source:
        what = "train.unedited=true" if experiment.train.unedited else f"train.source={experiment.train.source}"
        raise UserError(f"{name} has {what}, which changes what all classes share; train a class without it")


def packed(place: Path, shards: Path, loaded: Loaded) -> Path:
    """Shards of one class: those given, or packed from a folder of images, whose class has its name."""
    if (place / "index.json").is_file():
        return place
    if not place.is_dir():
        raise UserError(f"{place} is no folder; give a folder of images, or one that hmgan pack wrote")
    inside = [each for each in place.iterdir() if each.is_dir()]
    if len(inside) > 1:
        raise UserError(f"{place} has {len(inside)} classes; add them one after the other")
    name = place.resolve().name
    staged = shards.with_name(f".{shards.name}.partial")
    try:
        if not inside:
            shutil.rmtree(staged, ignore_errors=True)
            shutil.copytree(place, staged / name)
        pack(place if inside else staged, str(shards), resolution=loaded.generator.resolution, name=name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return shards


def start_of(wanted: str, loaded: Loaded, data: Path) -> int:
    """The label whose edits the new class is on top of. Raises UserError for a class that is not there."""
    if wanted == SOURCE:
        return SOURCE_START
    if wanted != NEAREST:
        if wanted not in loaded.classes:
            raise unknown("start", wanted, (NEAREST, SOURCE, *loaded.classes))
        return loaded.classes.index(wanted)
    images = open_data(str(data))
    (reals,) = images.examples(LOOKED_AT, images.classes).values()
    extractor = load_extractor("squeezenet")
    centre_F = extractor(reals).mean(0)

    def gap(label: int) -> float:
        fakes = torch.stack(list(drawn_by_keys(loaded.generator, range(LOOKED_AT), label)))
        return float((extractor(fakes).mean(0) - centre_F).norm())

    return min(range(len(loaded.classes)), key=gap)


def start_folder(model: Path, loaded: Loaded, start: int, folder: Path) -> Path:
    """A source to train from: the class folded, with its D, or with that of the model's own source."""
    if start == SOURCE_START:
        raw, backbone = SOURCE_START, Choice(**loaded.config["backbone"])
        save_source(folder, (backbone, loaded.generator.backbone), None, {"summary": "the source"})
    else:
        raw = joined_of(loaded.config, [start])["modulation"]["kept"][0]
        export(ExportOptions(network=model, out=folder, cls=loaded.classes[start]))
    config, states = {**read_config(folder), "added_from": raw}, {}
    if "discriminator" not in config and (named := loaded.config.get("source")):
        discriminator = load_source(named).discriminator
        if discriminator is not None:
            config["discriminator"], states[DISCRIMINATOR] = discriminator[0].model_dump(), discriminator[1]
    write(folder, config, states)
    return folder


def started_from(new: Loaded) -> int | None:
    """The class, of all that the model ever had, that a run's source was folded from; None where it was not."""
    path = Path(str(new.config.get("source"))) / CONFIG
    return json.loads(path.read_text(encoding="utf-8")).get("added_from") if path.is_file() else None
