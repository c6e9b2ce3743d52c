"""The `hmgan` command: what it says, what it refuses, and the whole way from images to pictures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import tomli_w
from PIL import Image

from hmgan.config.loading import load_experiment, resolve
from hmgan.data.images import Reading
from hmgan.data.loader import batches

HEAVY = ("torch", "numpy", "accelerate", "kornia", "matplotlib", "pydantic", "safetensors", "torchmetrics", "PIL")
VERBS = ("list", "show", "pack", "import", "pretrain", "align", "train", "evaluate", "sample", "interpolate", "demo")


def hmgan(*words, cwd=None, **environment):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "hmgan", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True)


def refused(capsys, *words):
    """What stands on stderr when `hmgan WORDS` is refused: one line, exit code 2."""
    capsys.readouterr()
    assert tiny.command(*words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").removesuffix("\n")


def started(*words):
    """What `hmgan WORDS` prints, and the modules that it has imported, in a process of its own."""
    program = (
        f"import sys; sys.argv = {['hmgan', *words]!r}\n"
        "from hmgan.cli.app import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    out, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return out, set(modules.split())


def test_help_imports_nothing_heavy_and_names_every_verb():
    out, modules = started("--help")
    assert not modules & set(HEAVY)
    for verb in VERBS:
        assert verb in out


@pytest.mark.parametrize(
    ("words", "needless"),
    [
        # pydantic is imported by typer, which checks the command line with it; the models of ours take longer.
        (["list"], {"hmgan.config.settings", "hmgan.config.entry_schemas", "rich.console"}),
        (["show", "hyper-mod-c"], {"hmgan.data.named"}),
        (["show", "adafm"], {"hmgan.modulation.adafm"}),
    ],
)
def test_list_and_show_import_no_framework(words, needless):
    _, modules = started(*words)
    assert not modules & ((set(HEAVY) - {"pydantic"}) | needless)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert tiny.command(verb, "--help") == 0
    out, err = capsys.readouterr()
    assert f"hmgan {verb}" in " ".join(out.split())
    assert err == ""


def test_without_a_verb_there_is_the_help(capsys):
    assert tiny.command() == 0
    assert "interpolate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "No such command 'trian'"),
        (["train"], "Missing argument 'EXPERIMENT'"),
        (["train", "hyper-mod-b", "--kimgs", "3"], "No such option: --kimgs"),
        (["train", "hyper-mod-b", "--batch", "many"], "Invalid value for '--batch': "),
    ],
)
def test_wrong_use_of_the_command_is_one_line(words, text, capsys):
    got = refused(capsys, *words)
    assert got.lower().startswith(text.lower())


def test_list_shows_every_kind_and_one_kind(capsys):
    assert tiny.command("list") == 0
    everything = capsys.readouterr().out
    assert tiny.command("list", "experiments") == 0
    experiments = capsys.readouterr().out
    for word in ("adafm", "barlow-twins", "fashion-close", "fashion-32", "hyper-mod-c"):
        assert word in everything
    assert "hyper-mod-c" in experiments
    assert "adafm" not in experiments


def test_show_prints_an_experiment_resolved_to_its_last_setting(capsys):
    import tomllib

    assert tiny.command("show", "hyper-mod-c", "--set", "train.kimg=7") == 0
    table = tomllib.loads(capsys.readouterr().out)
    assert table["train"]["kimg"] == 7
    defaults = {"init": "source", "epsilon": 1e-5, "live": False, "largest": 500_000_000}
    assert table["modulation"] == {"name": "adafm", **defaults}
    assert table["contrastive"] == {"name": "barlow-twins", "weight": 0.001, "off_diagonal": 0.005}
    assert resolve(table) == load_experiment("hyper-mod-c", ["train.kimg=7"])


def test_show_prints_a_component_with_its_defaults_and_data_with_its_provenance(capsys):
    assert tiny.command("show", "mlp") == 0
    out = capsys.readouterr().out
    assert "# class-net mlp" in out
    assert "layers = 4" in out
    assert tiny.command("show", "digits") == 0
    assert "provenance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["show", "hyper-mod-cc"], "no entry named 'hyper-mod-cc'; did you mean 'hyper-mod-c'? known: "),
        (["show", "adafm", "--set", "a=b"], "--set changes experiments, and 'adafm' is a modulation; leave it out"),
        (["list", "modulatons"], "no kind named 'modulatons'; did you mean 'modulation"),
        (["--registry", "nowhere", "list"], "--registry nowhere has none of the folders tasks, "),
        (["evaluate", "nowhere"], "no generator at nowhere ("),
        (["sample", "--network", "nowhere"], "no generator at nowhere ("),
        (
            ["sample", "--network", "nowhere", "--seeds", "1-"],
            "--seeds wants numbers and ranges such as 0,1,4-6, got '1-'",
        ),
        (["sample", "--network", "nowhere", "--grid", "8"], "--grid wants COLUMNSxROWS such as 8x4, got '8'"),
        (
            ["sample", "--network", "nowhere", "--seeds", "0-4", "--grid", "3x2"],
            "--grid 3x2 has 6 places for 5 seeds; make them equal",
        ),
        (["demo", "--experiment", "pretrain-fashion-32"], "hmgan demo wants a transfer experiment, got "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, *words).startswith(text)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_checkpoint_is_refused_and_nothing_is_written(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("no checkpoint")
    for path in ("notes.txt", "nowhere.model"):
        text = refused(capsys, "import", tmp_path / path, tmp_path / "out")
        assert text.startswith(str(tmp_path / path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_images_that_cannot_be_packed_are_refused_and_nothing_is_written(capsys, tmp_path):
    assert str(tmp_path / "nowhere") in refused(capsys, "pack", tmp_path / "nowhere", tmp_path / "out")
    images = tiny.write_images(tmp_path / "images", 1)
    assert "7" in refused(capsys, "pack", images, tmp_path / "out", "--resolution", 7)
    assert not (tmp_path / "out").exists()


TRAIN_MISTAKES = [
    (["hyper-mod-bb"], "no experiment named 'hyper-mod-bb'; did you mean 'hyper-mod-b'? known: "),
    (["pretrain-fashion-32"], "the experiment is for hmgan pretrain, which starts from no source, got "),
    (["hyper-mod-c-align"], "modulation.init is 'align', which starts from random heads; run hmgan align with "),
    (["hyper-mod-b", "--data", "digit"], "no dataset named 'digit'; did you mean 'digits'? known: "),
    (
        ["hyper-mod-b", "--data", "./nowhere"],
        "./nowhere is not a packed data set: no such folder; run `hmgan pack SRC ",
    ),
    (["hyper-mod-b", "--source", "fashion32"], "no source named 'fashion32'; did you mean 'fashion-32'? known: "),
    (["hyper-mod-b", "--source", "./nowhere"], "no source at ./nowhere: config.json is not there; make one with "),
    (["hyper-mod-b", "--set", "train.kimgs=1"], "unknown key 'train.kimgs'; did you mean 'kimg'? known: "),
    (["hyper-mod-b", "--set", "modulation=adfm"], "no modulation named 'adfm'; did you mean 'adafm'? known: "),
    (["hyper-mod-b", "--kimg", "-1"], "train.kimg should be greater than 0, got -1.0"),
    (["hyper-mod-b", "--batch", "6"], "stddev_group 4 does not divide the batch of 6; change train.batch or "),
    (["hyper-mod-b", "--gamma", "-2"], 'r1.gamma: gamma must be 0 or more, or "auto", got -2.0'),
    (["hyper-mod-b", "--metrics", "1"], "evaluation.per_class: per_class must be 0, which computes no scores, or "),
    (["hyper-mod-b", "--set", "train.trackers=['wnadb']"], "no tracker named 'wnadb'; did you mean 'wandb'? known: "),
    (["hyper-mod-b", "--set", "task.freeze=['rgb']"], "task.freeze names 'rgb'; did you mean 'from_rgb'? D has: "),
    (["hyper-mod-b", "--resume", "./nowhere"], "nowhere is not a run directory: config.json is not there"),
    (["hyper-mod-b", "--resume", "latest"], "no run to resume in OUT; give --outdir, or the run directory itself"),
]


@pytest.mark.parametrize(("words", "text"), TRAIN_MISTAKES, ids=[" ".join(words) for words, _ in TRAIN_MISTAKES])
def test_a_mistake_in_training_is_one_line_and_nothing_is_written(
    words, text, shards, source, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    defaults = ["--data", shards, "--source", source, "--batch", 4] if "--resume" not in words else []
    name, *rest = words
    got = refused(capsys, "train", name, "--outdir", "OUT", *defaults, *rest)
    assert got.startswith(text)
    assert not list(tmp_path.iterdir())


def test_pretraining_and_alignment_refuse_each_others_experiments(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    got = refused(capsys, "pretrain", "hyper-mod-b")
    assert got == "experiment 'hyper-mod-b' is for hmgan train, got hmgan pretrain"
    got = refused(capsys, "align", "pretrain-fashion-32")
    assert got == "experiment 'pretrain-fashion-32' is for hmgan pretrain, got hmgan align"
    assert not list(tmp_path.iterdir())


def train(outdir, shards, source, *more):
    where = ["--data", shards, "--source", source, "--outdir", outdir, "--batch", 4]
    return ["train", "hyper-mod-b", *where, "--set", "train.trackers=[]", *more]


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(shards, source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    assert tiny.command(*train(tmp_path / "out", shards, source, "--dry-run")) == 0
    out = capsys.readouterr().out
    experiment = tiny.transfer(shards, source, "train.unedited=true")  # as the preset has it
    generator, discriminator = tiny.prepare(experiment).networks

    def count(network, trained):
        return sum(p.numel() for p in network.parameters() if p.requires_grad == trained)

    rows = {
        line.split("│")[1].strip(): [cell.strip() for cell in line.split("│")[2:4]]
        for line in out.splitlines()
        if "│" in line
    }
    assert rows["source"] == [f"{count(generator.source, trained):,}" for trained in (False, True)]
    for name, part in (("class net", "class_net"), ("modulation", "modulation")):
        assert rows[name] == ["0", f"{count(generator.trained[part], True):,}"]
    rgb = sum(p.numel() for p in discriminator.from_rgb.parameters())
    assert rows["discriminator"] == [f"{rgb:,}", f"{count(discriminator, True):,}"]
    assert "memory per rank, estimated: " in out
    assert "classes: ant, bee, cat" in out
    (labels,) = (line.split()[1:] for line in out.splitlines() if line.startswith("labels: "))
    data = tiny.prepare(experiment).data
    first = next(batches(data, Reading(batch_per_rank=4, seed=0))).labels.tolist()
    assert labels == [tiny.CLASSES[label] for label in first]
    assert out.splitlines()[-1] == "dry run: nothing was trained or written"
    assert not list(tmp_path.iterdir())


def test_from_images_to_pictures(source, tmp_path, capsys):
    """pack, train, evaluate, sample, interpolate."""
    images = tiny.write_images(tmp_path / "images", 4)
    (images / "ant" / "broken.png").write_bytes(b"no picture")
    assert tiny.command("pack", images, tmp_path / "packed") == 0
    out, err = capsys.readouterr()
    assert "12 images of 8 px in 1 shards (ant 4, bee 4, cat 4)" in out
    assert "left out because they cannot be read, and named above: 1" in err
    assert "broken.png" in err

    assert tiny.command(*train(tmp_path / "runs", tmp_path / "packed", source, "--kimg", 0.008)) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "00000-hyper-mod-b-packed-8-gpus1-batch4"

    capsys.readouterr()
    assert tiny.command("evaluate", run, "--per-class", 2, "--trunc", 0.7) == 0
    assert "FD-squeezenet" in capsys.readouterr().out
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {(line["metric"], line["class"]) for line in lines} == {
        (metric, name) for metric in ("FD-squeezenet", "KD-squeezenet") for name in (*tiny.CLASSES, "mean")
    }
    assert {(line["kimg"], line["snapshot"], line["truncation"]) for line in lines} == {(0.008, "000000.008", 0.7)}

    assert tiny.command("sample", "--network", run, "--outdir", tmp_path / "one", "--seeds", "0,4-5") == 0
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(f"{name}-seed{seed:04d}.png" for name in tiny.CLASSES for seed in (0, 4, 5))
    with Image.open(tmp_path / "one" / "ant-seed0004.png") as picture:
        assert picture.size == (8, 8)
    grids = ["sample", "--network", run, "--outdir", tmp_path / "grid", "--seeds", "0-5", "--grid", "3x2"]
    assert tiny.command(*grids, "--class", "bee", "--class", "cat") == 0
    assert sorted(path.name for path in (tmp_path / "grid").iterdir()) == ["bee.png", "cat.png"]
    again = ["sample", "--network", run, "--outdir", tmp_path / "again", "--class", "bee", "--seeds", "4"]
    assert tiny.command(*again) == 0  # an image depends on its class and seed alone
    assert (tmp_path / "again" / "bee-seed0004.png").read_bytes() == (
        tmp_path / "one" / "bee-seed0004.png"
    ).read_bytes()
    assert "no class named 'bees'; did you mean 'bee'?" in refused(
        capsys, "sample", "--network", run, "--class", "bees", "--outdir", tmp_path / "none"
    )
    assert not (tmp_path / "none").exists()

    out = tmp_path / "walk" / "walk.png"
    assert tiny.command("interpolate", "--network", run, "--out", out, "--seeds", "0-1", "--steps", 2) == 0
    with Image.open(out) as picture:
        assert picture.size[0] > picture.size[1] > 8
    text = refused(capsys, "interpolate", "--network", source, "--out", tmp_path / "no.png")
    assert text == f"{source} is unconditional and has no classes to walk between; give a transfer run"


def test_scores_of_other_classes_are_refused(source, shards, tmp_path, capsys):
    assert tiny.command(*train(tmp_path / "runs", shards, source, "--kimg", 0.004)) == 0
    (tiny.write_images(tmp_path / "images", 2) / "cat").rename(tmp_path / "images" / "dog")
    assert tiny.command("pack", tmp_path / "images", tmp_path / "packed") == 0
    text = refused(capsys, "evaluate", *(tmp_path / "runs").iterdir(), "--data", tmp_path / "packed")
    assert text == (
        "the data has classes ant, bee, dog, the generator ant, bee, cat; "
        "give --data with the same classes in the same order"
    )


def test_the_installed_command_works_from_any_directory(tmp_path):
    done = hmgan("show", "hyper-mod-bb", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no entry named 'hyper-mod-bb'; did you mean 'hyper-mod-b'? known: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
    assert shutil.which("hmgan", path=str(Path(sys.executable).parent))


def test_a_run_of_another_directory_resumes_from_here(shards, source, tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    relative = [Path(os.path.relpath(path)) for path in (shards, source)]
    assert tiny.command(*train("runs", *relative, "--kimg", 0.004)) == 0
    monkeypatch.chdir(tmp_path)
    (run,) = (tmp_path / "there" / "runs").iterdir()
    assert tiny.command("train", "hyper-mod-b", "--resume", run, "--kimg", 0.008) == 0
    assert len((run / "stats.jsonl").read_text().splitlines()) == 2


def test_experiments_of_ones_own_registry_train(shards, source, tmp_path):
    registry = tmp_path / "registry"
    tables = {
        "experiments/mine": {"summary": "Mine", "extends": "hyper-mod-b", "data": "insects", "source": "small"}
        | {"train": {"batch": 4, "kimg": 0.004, "trackers": []}},
        "datasets/insects": {"path": str(shards)},
        "sources/small": {"path": str(source)},
    }
    for name, table in tables.items():
        path = registry / f"{name}.toml"
        path.parent.mkdir(parents=True)
        path.write_text(tomli_w.dumps(table))
    assert tiny.command("--registry", registry, "train", "mine", "--outdir", tmp_path / "runs") == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name == "00000-mine-insects-8-gpus1-batch4"


def test_resume_auto_begins_a_run_and_then_goes_on_with_the_one_of_the_same_configuration(shards, source, tmp_path):
    once = train(tmp_path, shards, source, "--kimg", 0.008, "--set", "train.snap=0.004", "--resume", "auto")
    assert tiny.command(*once) == 0
    (run,) = tmp_path.iterdir()
    shutil.rmtree(run / "checkpoints" / "000000002")  # as if it had been stopped in between
    assert tiny.command(*once) == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["000000001", "000000002"]
    assert len((run / "stats.jsonl").read_text().splitlines()) == 1
    # Another configuration is another run.
    assert tiny.command(*once, "--seed", 1) == 0
    assert len(list(tmp_path.iterdir())) == 2


def test_a_dry_run_of_a_batch_beyond_all_memory_says_what_it_would_need(shards, source, tmp_path, capsys):
    assert tiny.command(*train(tmp_path / "out", shards, source, "--dry-run", "--batch", 100_000_000)) == 0
    out = capsys.readouterr().out
    assert "for 100000000 images at once" in " ".join(out.split())
    assert "first 256 of the batch's 100,000,000 images: ant x " in out


def test_want_of_memory_is_one_line(monkeypatch, capsys):
    def greedy(kind):
        raise MemoryError("Unable to allocate 286 GiB")

    monkeypatch.setattr("hmgan.commands.listing.print_list", greedy)
    assert refused(capsys, "list").startswith("not enough memory (Unable to allocate 286 GiB); make the batch")
