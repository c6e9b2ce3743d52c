"""`hmgan export`: a trained generator in the layout of model hubs, or one of its classes as a plain source."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import save_file
from torch import nn

from hmgan import components
from hmgan.config.loading import data_of, portable, to_table
from hmgan.config.settings import Choice
from hmgan.errors import UserError, some_of, unknown
from hmgan.evaluation.card import write_card
from hmgan.evaluation.score import Score
from hmgan.files import write_folder_atomically
from hmgan.generators import build
from hmgan.generators.centres import CENTRES, write_centres
from hmgan.generators.fold import folded
from hmgan.generators.onnx import check_onnx, save_onnx
from hmgan.generators.snapshot import SNAPSHOTS, Loaded, generator_folder, load_generator
from hmgan.generators.source import (
    CONFIG,
    DISCRIMINATOR,
    GENERATOR,
    checked,
    read_choice,
    read_tensors,
    save_source,
    source_of,
)
from hmgan.importers.layouts_written import check_layout, save_layout
from hmgan.options.models import ExportOptions
from hmgan.report.scores import read_lines
from hmgan.train import checkpoint, rundir
from hmgan.train.trainer import CHECKPOINTS
from hmgan.types import UNLABELLED

RECIPE, ONNX = "experiment.json", "model.onnx"


class Origin(NamedTuple):
    """Where an export comes from."""

    loaded: Loaded
    snapshot: Path
    run: Path | None  # the run directory of the snapshot, if it still lies in one


def export(options: ExportOptions) -> None:
    """Writes model.safetensors, config.json and README.md, the model card, into a new folder.

    Of a whole generator, `hmgan sample --network OUT` draws the same images. Of one class, the folder is a source; also
    for `hmgan train --source OUT`, if the run still has the D of that snapshot. Of a checkpoint of several ranks'
    shares, the folder is the same checkpoint as one file of whole tensors.

    Raises: UserError for an existing folder, a network that is not there, or a class that is not there or cannot fold.
    """
    network, out, cls = options.network, options.out, options.cls
    if out.exists():
        raise UserError(f"{out} exists already; give a new folder")
    if (network / checkpoint.STATE).is_file():
        export_checkpoint(options)
        return
    origin = origin_of(network)
    if cls is not None and origin.loaded.transfer is None:
        raise UserError(f"{network} has no modulation, whose classes could be folded; leave --class out")
    if cls is not None and cls not in origin.loaded.classes:
        raise unknown("class", cls, origin.loaded.classes)

    if options.onnx:
        if cls is None and origin.loaded.transfer is not None:
            raise UserError("an ONNX file draws one class; name it with --class, and export each on its own")
        check_onnx(origin.loaded.generator.backbone)

    if options.layout:
        if cls is None and origin.loaded.transfer is not None:
            raise UserError(f"--layout {options.layout} is of one class; name it with --class, and export each")
        check_layout(options.layout, read_choice(origin.loaded.config, "backbone", origin.snapshot))

    out.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomically(out, partial(fill, origin, options))
    print(out)


def export_checkpoint(options: ExportOptions) -> None:
    """Writes a checkpoint of shares as a whole one. Raises UserError for options that are of a generator."""
    if options.cls is not None or options.layout or options.onnx or options.fp16:
        raise UserError(f"{options.network} is a checkpoint, which is exported as it is; give its run, or no option")
    from hmgan.train.merge import merge  # torch.distributed.checkpoint takes a second to import

    options.out.parent.mkdir(parents=True, exist_ok=True)
    merge(options.network, options.out)
    print(options.out)


def fill(origin: Origin, options: ExportOptions, folder: Path) -> None:
    """Writes all of an export."""
    cls = options.cls
    if cls is not None:
        save_folded(folder, origin, cls)
    else:
        for name in (GENERATOR, DISCRIMINATOR):
            if (origin.snapshot / name).is_file():
                shutil.copyfile(origin.snapshot / name, folder / name)
        write_json(folder / CONFIG, origin.loaded.config)
    keep_found(folder, origin, cls)
    use = f"hmgan sample {options.out.name} --seeds 0-31 --grid 8x4"
    if options.layout:
        use += "\n\n" + save_layout(options.layout, folder)
    if options.onnx:
        save_onnx(load_generator(folder).generator.backbone, folder / ONNX)
    if options.fp16:
        for path in folder.glob("*.safetensors"):
            save_file({name: tensor.half() for name, tensor in read_tensors(path).items()}, path)
    if origin.run is not None:
        write_json(folder / RECIPE, to_table(rundir.read_config(origin.run)))
    if cls is not None and (folder / DISCRIMINATOR).is_file():
        use += f"\nhmgan train hyper-mod-b --source {options.out.name} --data SHARDS"
    base, data = (names_of(origin.loaded.config.get(key)) for key in ("source", "data"))
    told, found = facts(origin, cls), scores(origin, cls)
    write_card(folder, title(origin, cls), told, found, use, options.licence, next(iter(base), None), data)


def keep_found(folder: Path, origin: Origin, cls: str | None) -> None:
    """Writes the centres that the model has; its configuration says so, for who fetches it from a hub."""
    found = origin.loaded.centres
    kept = dict(found) if cls is None else {UNLABELLED: found[cls]} if cls in found else {}
    write_centres(folder, kept)
    if kept:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        write_json(folder / CONFIG, {**config, "centres": CENTRES})


def names_of(place: Any) -> list[str]:
    """What names a source or data sets on a card: without the folders of this machine."""
    if isinstance(place, Mapping):
        place = place.get("sources", [])
    places = [place] if isinstance(place, str) else place or []
    return [Path(str(each)).name for each in portable(places)]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a configuration for other machines: without paths of this one."""
    path.write_text(json.dumps(portable(content), indent=1) + "\n", encoding="utf-8")


def origin_of(network: Path) -> Origin:
    """Raises UserError where there is no generator."""
    loaded, snapshot = load_generator(network), generator_folder(network)
    if not network.exists():
        raise UserError(
            f"{network} is a source of the registry or of a hub, which is exported already; give a run or a folder"
        )
    above = snapshot.resolve().parent
    run = above.parent if above.name == SNAPSHOTS and (above.parent / rundir.CONFIG).is_file() else None
    return Origin(loaded, snapshot, run)


def save_folded(folder: Path, origin: Origin, cls: str) -> None:
    """Saves one class as a source, with the D of that class where `discriminator_of` finds it."""
    config = origin.loaded.config
    generator, label = origin.loaded.transfer, origin.loaded.classes.index(cls)
    assert generator is not None  # checked by `export`
    known = ("experiment", "kimg", "data", "data_sha256", "source", "source_sha256")
    kept = portable({key: config[key] for key in known if key in config})
    notes = {"summary": f"class {cls}, folded", "class": cls, **kept}
    backbone = read_choice(config, "backbone", origin.snapshot)
    save_source(folder, (backbone, folded(generator, label)), discriminator_of(origin, label), notes)


def discriminator_of(origin: Origin, label: int) -> tuple[Choice, nn.Module] | None:
    """D reduced to the logit of one class; None where the run has none."""
    critic = critic_of(origin)
    return critic and (critic[0], of_class(*critic, label))


def of_class(choice: Choice, critic: Any, label: int) -> nn.Module:
    """A discriminator of one logit, that of a class."""
    plain: nn.Module = components.build("discriminator", choice.name, 1, **choice.options)
    plain.load_state_dict(critic.of_class(label))
    return plain


def critic_of(origin: Origin) -> tuple[Choice, Any] | None:
    """D of all classes, from the run's checkpoint of the same kimg; None where there is none."""
    kept = origin.run and checkpoint_at(origin.run, origin.loaded.config.get("kimg"))
    if not kept:
        return None
    assert origin.run is not None
    own = checked(checkpoint.tensors(kept, "discriminator"), kept)
    experiment = rundir.read_config(origin.run)
    source = source_of(experiment)
    critic: Any = build.build(experiment, source, len(origin.loaded.classes)).discriminator
    critic.load_state_dict(own)
    choice = experiment.discriminator or (source and source.discriminator and source.discriminator[0])
    assert choice
    return choice, critic


def checkpoint_at(run: Path, kimg: float | None) -> Path | None:
    """The run's complete checkpoint of a kimg; None where there is none."""
    kept = (path for path in checkpoint.stored(run / CHECKPOINTS) if kimg is not None)
    return next((path for path in kept if checkpoint.kimg_of(path) == kimg), None)


def title(origin: Origin, cls: str | None) -> str:
    """The model card's."""
    what = str(origin.loaded.config.get("experiment") or origin.loaded.config.get("summary") or "A generator")
    return what if cls is None else f"{what}: class {cls} alone"


def facts(origin: Origin, cls: str | None) -> dict[str, str]:
    """What a reader must know, from the snapshot itself and its run's configuration."""
    config, classes = origin.loaded.config, origin.loaded.classes
    found = {"Classes": some_of(classes) if cls is None else f"{cls}, one of {some_of(classes)}"}
    named = {"Training": "kimg", "Data": "data", "Data sha256": "data_sha256"}
    named |= {"Source": "source", "Source sha256": "source_sha256"}
    found |= {name: str(portable(config[key])) for name, key in named.items() if key in config}
    if (data := data_of(portable(config.get("data")))) is not None:
        found["Data"] = str(data)
    if "Training" in found:
        found["Training"] += " kimg"
    if origin.run is not None:
        train = rundir.read_config(origin.run).train
        found |= {"Batch": str(train.batch), "Seed": str(train.seed), "Recipe": RECIPE}
    return found | {"Licence": "that of the source weights and of the data"}


def scores(origin: Origin, cls: str | None) -> list[Score]:
    """The snapshot's first scores in its run's metrics.jsonl, of every class or of one."""
    kept: dict[tuple[str, str], Score] = {}
    for line in read_lines(origin.run / "metrics.jsonl") if origin.run is not None else ():
        if line["snapshot"] == origin.snapshot.name and cls in (None, line["class"]):
            kept.setdefault((line["metric"], line["class"]), Score.of_line(line))
    return list(kept.values())
