"""`hmgan classes`: a model's classes listed, renamed, dropped and added to; those that are left stay as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hmgan.commands.export import export
from hmgan.config.experiment import Experiment
from hmgan.config.loading import load_experiment
from hmgan.config.settings import Choice
from hmgan.data.named import open_data
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError, unknown
from hmgan.files import write_folder_atomically
from hmgan.generators.centres import CENTRES, write_centres
from hmgan.generators.snapshot import CONDITIONAL, Loaded, generator_folder, load_generator
from hmgan.generators.source import CONFIG, DISCRIMINATOR, GENERATOR, load_source, read_tensors, save_source, write
from hmgan.metrics.networks import load_extractor
from hmgan.modulation.joined import SOURCE_START
from hmgan.options.models import ClassesOptions, ExportOptions
from hmgan.options.training import TrainOptions
from hmgan.pictures.class_images import drawn_by_keys
from hmgan.train import rundir
from hmgan.train.command import train

JOINED, NEAREST, SOURCE = "joined", "nearest", "source"
# Where a class net has a row per class.
ROWS = ("trained.modulation.base_net.weight", "trained.modulation.base_net.embedding.weight")
LOOKED_AT = 64  # images of a class, to find the nearest
WORDS = {"list": 0, "add": 1, "drop": 1, "rename": 2}


def classes(options: ClassesOptions) -> None:
    """Runs one action. Raises UserError for another one, and for classes that are not there or there already."""
    action, words = options.action, options.names
    if action not in WORDS:
        raise unknown("action", action, WORDS)
    if len(words) != WORDS[action]:
        wanted = {"list": "no more words", "add": "IMAGES or a finished RUN", "drop": "NAME", "rename": "OLD NEW"}[
            action
        ]
        raise UserError(f"hmgan classes MODEL {action} takes {wanted}, got {' '.join(words) or 'none'}")
    loaded = load_generator(options.model)
    if action == "list":
        print("\n".join(loaded.classes))
        return
    if loaded.transfer is None:
        raise UserError(f"{options.model} is unconditional and has no classes; give a transfer")
    if options.out is None:
        raise UserError(f"--out names the new folder of what {action} makes; {options.model} stays as it is")
    if options.out.exists():
        raise UserError(f"{options.out} exists already; give a new folder")
    if action == "add":
        add(options, loaded, Path(words[0]))
        return
    if words[0] not in loaded.classes:
        raise unknown("class", words[0], loaded.classes)
    if action == "drop" and len(loaded.classes) < 2:
        raise UserError(f"{words[0]} is the only class; a model needs one")
    if action == "rename":
        check_name(words[1], loaded.classes)
    leave(options, loaded)


def leave(options: ClassesOptions, loaded: Loaded) -> None:
    """Writes the model with a class under another name, or without it."""
    action, words = options.action, options.names
    assert options.out is not None
    names = [words[1] if (action, name) == ("rename", words[0]) else name for name in loaded.classes]
    kept = [i for i, name in enumerate(loaded.classes) if (action, name) != ("drop", words[0])]
    state, parts = state_of(loaded, generator_folder(options.model)), joined_of(loaded.config, kept)
    stay = forget(state, parts["modulation"]) if action == "drop" else ""
    centres = {names[i]: loaded.centres[loaded.classes[i]] for i in kept if loaded.classes[i] in loaded.centres}
    save(options.out, loaded, parts, [names[i] for i in kept], state, centres)
    print(f"{options.out}: {', '.join(names[i] for i in kept)}")
    if action == "drop":
        print(f"the numbers of {words[0]} " + (f"stay in the file: {stay}" if stay else "are gone from the file"))


def add(options: ClassesOptions, loaded: Loaded, place: Path) -> None:
    """Trains a class and joins it; of a run that has trained one, joins it alone."""
    out = options.out
    assert out is not None
    if (place / "config.json").is_file() and (place / "snapshots").is_dir():
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
    print(f"{out}: {', '.join((*loaded.classes, name))}")


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
    gaps = [
        (
            extractor(torch.stack(list(drawn_by_keys(loaded.generator, range(LOOKED_AT), label)))).mean(0) - centre_F
        ).norm()
        for label in range(len(loaded.classes))
    ]
    return int(torch.stack(gaps).argmin())


def start_folder(model: Path, loaded: Loaded, start: int, folder: Path) -> Path:
    """A source to train from: the class folded, with its D, or with that of the model's own source."""
    if start == SOURCE_START:
        backbone = Choice(**loaded.config["backbone"])
        save_source(folder, (backbone, loaded.generator.backbone), None, {"summary": "the source"})
    else:
        export(ExportOptions(network=model, out=folder, cls=loaded.classes[start]))
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if not (folder / DISCRIMINATOR).is_file() and (named := loaded.config.get("source")):
        source = load_source(named)
        if source.discriminator is not None:
            choice, state = source.discriminator
            write(folder, {**config, "discriminator": choice.model_dump()}, {DISCRIMINATOR: state})
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    raw = SOURCE_START if start == SOURCE_START else joined_of(loaded.config, [start])["modulation"]["kept"][0]
    write(folder, {**config, "added_from": raw}, {})
    return folder


def started_from(new: Loaded) -> int | None:
    """The class, of all that the model ever had, that a run's source was folded from; None where it was not."""
    path = Path(str(new.config.get("source"))) / CONFIG
    return json.loads(path.read_text(encoding="utf-8")).get("added_from") if path.is_file() else None


def count_of(config: dict[str, Any]) -> int:
    """Classes that the model ever had."""
    options = joined_of(config, list(range(len(config["classes"]))))["modulation"]
    return int(options["old"]) + len(options["added"])


def joined_of(config: dict[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """The class net and modulation of a model with these of its classes left."""
    modulation = config["modulation"]
    if modulation["name"] != JOINED:
        old = {"old": len(config["classes"]), "class_net": config["class_net"], "modulation": modulation}
        modulation = {"name": JOINED, **old, "added": [], "kept": list(range(old["old"]))}
    kept = [modulation["kept"][place] for place in places]
    return {"class_net": {"name": "one-hot"}, "modulation": {**modulation, "kept": kept}}


def state_of(loaded: Loaded, folder: Path) -> dict[str, Tensor]:
    """A model's tensors under the names that they have where it is joined."""
    tensors = read_tensors(folder / GENERATOR)
    if loaded.config["modulation"]["name"] == JOINED:
        return tensors
    moved = {"trained.class_net.": "trained.modulation.base_net.", "trained.modulation.": "trained.modulation.base."}
    state = {}
    for key, x in tensors.items():
        before = next((each for each in moved if key.startswith(each)), "")
        state[moved.get(before, "") + key.removeprefix(before)] = x
    return state


def forget(state: dict[str, Tensor], options: dict[str, Any]) -> str:
    """Puts zeros in place of what is the dropped classes' own; returns why some of it stays, if any does."""
    old, added = int(options["old"]), options["added"]
    needed = set(options["kept"])
    for place in reversed(range(len(added))):  # a class starts from one before it
        if old + place in needed:
            needed.add(int(added[place]["start"]))
    for place in range(len(added)):
        if old + place not in needed:
            own = f"trained.modulation.added.{place}."
            state |= {name: torch.zeros_like(x) for name, x in state.items() if name.startswith(own)}
    dropped = [label for label in range(old) if label not in needed]
    rows = next((name for name in ROWS if name in state), "")
    if dropped and rows:
        state[rows] = state[rows].index_fill(0, torch.tensor(dropped), 0.0)
    if needed - {SOURCE_START, *options["kept"]}:
        return "an added class starts from them"
    return "" if rows or not dropped else "its tables hold all classes"


def save(
    out: Path,
    loaded: Loaded,
    parts: dict[str, Any],
    names: Sequence[str],
    state: dict[str, Tensor],
    centres: Mapping[str, Tensor],
) -> None:
    """Writes the model whole or not at all, after it has been read once."""
    notes = {key: value for key, value in loaded.config.items() if key not in ("format", "classes", "centres", *parts)}
    notes |= {"centres": CENTRES} if centres else {}
    config = {"format": CONDITIONAL, **notes, "classes": list(names), **parts}

    def fill(partial: Path) -> None:
        write(partial, config, {GENERATOR: state})
        write_centres(partial, centres)
        load_generator(partial)

    out.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(out, fill)


def check_name(name: str, known: Sequence[str]) -> None:
    """Raises UserError for a name that is taken, or none."""
    if name in known or not name.strip():
        raise UserError(f"a class is named {name!r} already; the model has {', '.join(known)}")
