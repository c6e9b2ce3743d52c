"""How good a class is that was added later, beside the same class trained from the start, by the same scores.

    python scripts/add_class.py fashion-ten --outdir added --left-out bag    # left out, then added, 3 seeds
    python scripts/add_class.py fashion-ten --outdir added --one-by-one 5    # five classes, the others one by one
    python scripts/add_class.py fashion-ten --outdir added                   # each of the ten left out in turn: hours

For a seed, `whole` is trained on all classes; of each left-out class, `rest` on the others, and then the class is added
to it. Both are scored on that class with the same seeds of fakes. --one-by-one N trains on all classes but the last N,
adds those one after the other, and scores each. Every line of added.jsonl is one class of one seed; what is in the
folder already is not trained again, so that the same command goes on where it was stopped, also within a training.
Scores are those of the embedded study: by two networks, against images that are set apart where the data has them, and
beside reference rows.
"""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from PIL import Image

from hmgan.commands.classes import classes
from hmgan.config.loading import data_of
from hmgan.data.named import open_data, open_images, scored_against
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError
from hmgan.evaluation.fakes import Fakes
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.references import references
from hmgan.evaluation.score import class_scores
from hmgan.files import cache_folder, write_folder_atomically
from hmgan.generators.snapshot import load_generator
from hmgan.metrics.leakage import fit_classifier
from hmgan.options.models import ClassesOptions
from hmgan.options.training import TrainOptions
from hmgan.train.command import train
from hmgan.train.distributed.runtime import Runtime

WHOLE = "trained from the start"
FAKES_SEED = 1_000_000  # away from training's
MEASURES = ("fd", "kd", "prdc", "spread")
SHOWN = ("FD", "recall-k3", "class-kept")
# Those of the embedded study, for both ways.
SETTINGS = (
    *("disc_head.class_fakes=false", "r1.gamma=2.0", "optimizer.lr=0.003", "optimizer.class_net_mult=1.0"),
    *("task.mixing=0.0", "train.batch=16", "train.tick=0.5", "train.trackers=[]", "compute.threads=1"),
)
OF_ONE = [each for each in SETTINGS if not each.startswith("disc_head")]  # class, which no head tells from others


class Plan(NamedTuple):
    """How much is trained, and where."""

    data: str
    outdir: Path
    source: str
    kimg: float
    added_kimg: float
    fakes: int


def main(
    data: str,
    outdir: Path = Path("added"),
    source: str = "fashion-32",
    seeds: str = "0,1,2",
    left_out: Annotated[list[str] | None, typer.Option(help="Repeatable; left out: each class in turn.")] = None,
    one_by_one: Annotated[int, typer.Option(help="Add the last N classes one after the other.")] = 0,
    kimg: float = 6.0,
    added_kimg: float = 1.0,
    fakes: int = 250,
) -> None:
    plan, names = Plan(data, outdir, source, kimg, added_kimg, fakes), open_data(data).classes
    begin(plan)
    images(plan)
    for seed in map(int, seeds.split(",")):
        whole = trained(plan, names, seed)
        if one_by_one:
            model, later = trained(plan, names[:-one_by_one], seed), names[-one_by_one:]
            for place, name in enumerate(later):
                model = added(plan, model, name, seed, f"{place + 1}-of-{one_by_one}")
            for name in later:
                report(plan, name, seed, {WHOLE: whole, f"added, the last {one_by_one} one by one": model})
            continue
        for name in left_out or names:
            rest = trained(plan, [each for each in names if each != name], seed)
            report(plan, name, seed, {WHOLE: whole, "added": added(plan, rest, name, seed, "alone")})
    summary(plan)


def begin(plan: Plan) -> None:
    """Notes the plan in its folder. Raises UserError for one in which another was begun."""
    path, told = plan.outdir / "plan.json", json.dumps({**plan._asdict(), "outdir": plan.outdir.name})
    if path.is_file() and path.read_text(encoding="utf-8") != told:
        raise UserError(f"{path} is another plan, {path.read_text(encoding='utf-8')}; give another --outdir")
    plan.outdir.mkdir(parents=True, exist_ok=True)
    path.write_text(told, encoding="utf-8")


def images(plan: Plan) -> None:
    """The data as files: a folder per class, from which sets of some classes are packed."""
    folder = plan.outdir / "images"
    if not folder.is_dir():
        write_folder_atomically(folder, partial(write_images, plan.data))


def write_images(name: str, folder: Path) -> None:
    data = open_data(name).indexed("a script")
    for i in range(len(data)):
        image_3HW, label = data[i]
        path = folder / data.classes[label] / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_3HW.permute(1, 2, 0).numpy()).save(path)


def packed(plan: Plan, names: Sequence[str]) -> Path:
    """Shards of some classes."""
    shards, staged = plan.outdir / "shards" / "-".join(names), plan.outdir / "staged" / "-".join(names)
    if not (shards / "index.json").is_file():
        for name in names:
            shutil.copytree(plan.outdir / "images" / name, staged / name, dirs_exist_ok=True)
        pack(staged, str(shards), name="some")
    return shards


def trained(plan: Plan, names: Sequence[str], seed: int) -> Path:
    """A run of these classes, from the start."""
    outdir = plan.outdir / "runs" / f"{'-'.join(names)}-seed{seed}"
    finished = sorted(outdir.glob("*/snapshots/*/config.json"))
    if finished:
        return finished[-1].parents[2]
    own = ["disc_head=auxiliary-classifier", *SETTINGS] if len(names) > 1 else OF_ONE
    wanted = [*own, f"train.snap={plan.kimg}"]
    options = TrainOptions(
        experiment="hyper-mod-b", outdir=outdir, data=[str(packed(plan, names))], source=plan.source,
        kimg=plan.kimg, metrics=0, seed=seed, overrides=wanted, resume="auto",
    )  # fmt: skip
    return Path(train(options))


def added(plan: Plan, model: Path, name: str, seed: int, what: str) -> Path:
    """The model with a class more."""
    out = plan.outdir / "models" / f"{name}-{what}-seed{seed}"
    if not (out / "config.json").is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        runs = plan.outdir / "runs" / out.name
        if begun := sorted(runs.glob("*/config.json")):
            place = train(TrainOptions(resume=str(begun[-1].parent)))
        else:
            shutil.rmtree(out.with_name(f"{out.name}-start"), ignore_errors=True)  # of a try that was stopped in it
            place = packed(plan, [name])
        classes(
            ClassesOptions(
                model=model, action="add", names=[str(place)], out=out, outdir=runs,
                kimg=plan.added_kimg, metrics=0, seed=seed, overrides=[*OF_ONE, f"train.snap={plan.added_kimg}"],
            )
        )  # fmt: skip
    return out


def report(plan: Plan, name: str, seed: int, models: dict[str, Path]) -> None:
    """A line per model: the scores of its images of one class."""
    judge = judge_of(plan)
    for way, model in models.items():
        loaded = load_generator(model)
        drawn = Fakes(loaded.generator, loaded.classes, plan.fakes, FAKES_SEED)
        features = judge.drawn(drawn, loaded.classes.index(name))
        scores: dict[str, float] = {}
        for network, real_CNF, fake_NF in zip(judge.extractors, judge.real_features, features, strict=True):
            of_class = class_scores({name: real_CNF[name]}, {name: fake_NF}, network, MEASURES)
            scores |= {score.metric: score.value for score in of_class}
            scores[network.metric("class-kept")] = fit_classifier(real_CNF).accuracy(fake_NF, name)
        line = {"class": name, "seed": seed, "way": way, "reals": len(judge.real_features[0][name]), **scores}
        with (plan.outdir / "added.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@cache
def judge_of(plan: Plan) -> Judge:
    """What scores them all. One class's images are judged beside those of all the others."""
    reals = open_images(scored_against(data_of(plan.data)), labelled=True)
    return Judge(reals, "squeezenet,judge", cache_folder() / "features", Runtime(), (*MEASURES, "leakage"))


def summary(plan: Plan) -> None:
    """For each way of adding, the means over its classes and seeds, beside the same trained from the start."""
    # The newest line of each: a folder that was gone on with has some twice.
    lines = [json.loads(line) for line in (plan.outdir / "added.jsonl").read_text(encoding="utf-8").splitlines()]
    newest = {(line["class"], line["seed"], line["way"]): line for line in lines}
    shown = [network.metric(score) for network in judge_of(plan).extractors for score in SHOWN]
    beside = references(judge_of(plan), open_data(plan.data).indexed("a script"), plan.source, plan.fakes, FAKES_SEED)
    for way in dict.fromkeys(way for *_, way in newest if way != WHOLE):
        own = [key[:2] for key in newest if key[2] == way]
        names = dict.fromkeys(name for name, _ in own)
        print("\n| | " + " | ".join(shown) + " |\n|---|" + "--:|" * len(shown))
        for each in (WHOLE, way):
            some = [newest[*key, each] for key in own]
            print(f"| {each} | " + " | ".join(spread([line[score] for line in some]) for score in shown) + " |")
        for row, found in beside.items():
            of = {
                name: [score.value for score in found if score.metric == name and score.cls in names] for name in shown
            }
            print(f"| {row} | " + " | ".join(spread(of[name]) for name in shown) + " |")
        print("\n" + counts(plan, [newest[*key, way] for key in own]))


def spread(values: Sequence[float]) -> str:
    """Their mean, and where there are several, from where to where they lie."""
    if not values:
        return "-"
    digits = 0 if max(values) >= 10 else 3
    mean, low, high = (f"{each:,.{digits}f}" for each in (statistics.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def counts(plan: Plan, lines: Sequence[dict[str, Any]]) -> str:
    """Of how many classes and images, which seeds, and trained for how long."""
    seeds, reals = (", ".join(map(str, sorted({line[name] for line in lines}))) for name in ("seed", "reals"))
    names = ", ".join(dict.fromkeys(line["class"] for line in lines))
    return (
        f"means (from the lowest to the highest) over classes {names} and seeds {seeds}; {reals} real and {plan.fakes} "
        f"fake images of a class; {plan.kimg} kimg, an added class {plan.added_kimg}"
    )


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
