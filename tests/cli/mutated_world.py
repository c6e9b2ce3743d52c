"""A small world of everything that commands read, good command lines on it, and what may be wrong with it."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import tiny
import tomli_w
import torch
from PIL import Image
from reference_stylegan1 import port_checkpoint
from safetensors.torch import load_file

UNSCORED = ["--metrics", "0", "--workers", "0"]
TRAINED = ["--data", "set", "--outdir", "runs", "--kimg", "0.008", "--batch", "4", "--set", "train.trackers=[]"]
TRANSFER = [*TRAINED, "--source", "source"]
ADDED = ["--kimg", "0.008", "--metrics", "0", *tiny.options(train__batch=4, train__trackers="[]")]
MINE = ["--registry", "entries"]
# Verb -> good command lines, each with the files that it reads.
GOOD: dict[str, list[tuple[list[str], str]]] = {
    "list": [(["list"], ""), (["list", "experiments"], ""), ([*MINE, "list", "datasets"], "entries/*/*.toml")],
    "show": [
        (["show", "hyper-mod-b", "--set", "train.kimg=7"], ""),
        (["show", "adafm"], ""),
        ([*MINE, "show", "tiny"], "entries/experiments/*.toml"),
        ([*MINE, "show", "mine"], "entries/datasets/*.toml"),
    ],
    "pack": [
        (["pack", "images", "out", "--resolution", "8", "--threads", "1"], "images/*/*"),
        (["pack", "images.zip", "out", "--threads", "1", "--shard-samples", "4"], "images.zip"),
        (["pack", "table.csv", "out", "--threads", "1", "--fit", "pad", "--pad", "4"], "table.csv"),
        (["pack", "table.jsonl", "out", "--threads", "1", "--format", "jpg", "--quality", "90"], "table.jsonl"),
        (["pack", "table.parquet", "out", "--threads", "1", "--background", "black"], "table.parquet"),
        (["pack", "idx/images-idx3-ubyte.gz", "out", "--threads", "1", "--name", "digits"], "idx/*"),
        (["pack", "wds", "out", "--threads", "1", "--format", "webp"], "wds/*"),
    ],
    "index": [
        (["index", "wds"], "wds/*"),
        (["index", "wds", "--classes", "ant,bee,cat", "--background", "black"], "wds/*"),
        (["index", "set"], "set/*"),
    ],
    "inspect": [(["data", "inspect", "set", "--grid", "grid.png"], "set/*")],
    "verify": [(["data", "verify", "set"], "set/*")],
    "import": [(["import", "port.model", "out", "--resolution", "8", "--stddev-group", "2"], "port.model")],
    "pretrain": [([*MINE, "pretrain", "scratch", *TRAINED, *UNSCORED], "entries/experiments/*.toml")],
    "align": [(["align", "hyper-mod-b", *TRANSFER], "source/*")],
    "train": [
        (["train", "hyper-mod-b", *TRANSFER, *UNSCORED, "--gamma", "1"], "set/*"),
        (["train", "hyper-mod-c", *TRANSFER, "--workers", "0", "--aug", "ada", "--dry-run"], "source/*"),
        (["train", "--resume", "run", "--kimg", "0.016"], "run/**/*"),
    ],
    "evaluate": [(["evaluate", "run", "--per-class", "4", "--seed", "1", "--metrics", "fd"], "run/**/*")],
    "sample": [
        (["sample", "--network", "run", "--seeds", "0,2-4", "--grid", "2x2", "--outdir", "out"], "run/snapshots/*/*"),
        (["sample", "--network", "source", "--seeds", "0", "--trunc", "0.7", "--outdir", "out"], "source/*"),
    ],
    "interpolate": [
        (["interpolate", "--network", "run", "--seeds", "0-1", "--steps", "2", "--out", "o.png"], "run/snapshots/*/*")
    ],
    "mix": [
        (["mix", "--network", "run", "--seeds", "0-1", "--outdir", "out", "--class", "bee"], "run/snapshots/*/*"),
        (["mix", "--network", "source", "--seeds", "0", "--with", "1", "--outdir", "out"], "source/*"),
    ],
    "centres": [(["centres", "run", "--draws", "16", "--keep", "0.5"], "run/**/*")],
    "export": [
        (["export", "run", "out", "--licence", "mit"], "run/**/*"),
        (["export", "run", "out", "--class", "bee"], "run/**/*"),
    ],
    "explore": [(["explore", "run", "source", "--port", "0", "--no-browser"], "run/snapshots/*/*")],
    "classes": [
        (["classes", "run", "list"], "run/snapshots/*/*"),
        (["classes", "run", "rename", "bee", "wasp", "--out", "out"], "run/snapshots/*/*"),
        (["classes", "run", "drop", "bee", "--out", "out"], "exported/*"),
        (["classes", "exported", "add", "dog", "--out", "out", "--start", "bee", *ADDED], "dog/*"),
    ],
    "project": [
        (["project", "run", "dog/000.png", "--out", "out", "--steps", "1"], "dog/*"),
        (["project", "source", "dog/000.png", "--out", "out", "--steps", "1"], "source/*"),
    ],
    "push": [(["push", "exported", "anna/insects", "--message", "new"], "exported/*")],
    "demo": [
        ([*MINE, "demo", "--experiment", "tiny", "--outdir", "demo", "--seed", "1"], "entries/experiments/*.toml")
    ],
    "compare": [
        ([*MINE, "compare", "small", "--outdir", "study", "--dry-run"], "entries/studies/*.toml"),
        ([*MINE, "compare", "small", "--outdir", "study", "--report-only", "--seeds", "0"], "entries/studies/*.toml"),
    ],
    "launch": [
        (["launch", "--dry-run", "--nodes", "2", "--gpus", "1", "hyper-mod-b", *TRANSFER], ""),
        (["launch", "--target", "k8s", "--dry-run", "hyper-mod-b", "--batch", "4"], ""),
    ],
    "doctor": [(["doctor", "hyper-mod-b", "--data", "set", "--source", "source", "--batch", "4"], "set/*")],
}


def build(folder: Path) -> None:
    """Every file that GOOD names."""
    shards = tiny.write_shards(folder / "packing")
    shards.rename(folder / "set")
    shutil.rmtree(folder / "packing")
    source = tiny.write_source(folder / "source")
    images = tiny.write_images(folder / "images", 3)
    files = sorted(images.rglob("*.png"))
    rows = [(f"images/{path.parent.name}/{path.name}", path.parent.name) for path in files]
    with (folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    lines = [json.dumps({"path": path, "label": label}) for path, label in rows]
    (folder / "table.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    contents = [path.read_bytes() for path in files]
    cells = [{"bytes": content, "path": None} for content in contents]
    table = pyarrow.table({"image": cells, "label": [label for _, label in rows]})
    pyarrow.parquet.write_table(table, folder / "table.parquet")
    labels = {path: tiny.CLASSES.index(label) for path, label in rows}
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for (path, _), content in zip(rows, contents, strict=True):
            archive.writestr(path, content)
        archive.writestr("dataset.json", json.dumps({"labels": [[path, label] for path, label in labels.items()]}))
    (folder / "wds").mkdir()
    with tarfile.open(folder / "wds" / "a.tar", "w") as tar:
        for i, (content, label) in enumerate(zip(contents, labels.values(), strict=True)):
            for name, data in ((f"{i:03d}.png", content), (f"{i:03d}.cls", str(label).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    write_idx(folder / "idx", contents, list(labels.values()))
    torch.save(port_checkpoint((8, 8)), folder / "port.model")
    words = ["--data", folder / "set", "--source", source, "--outdir", folder / "runs", "--kimg", 0.008, "--batch", 4]
    assert tiny.command("train", "hyper-mod-b", *words, *UNSCORED, "--set", "train.trackers=[]") == 0
    (run,) = (folder / "runs").iterdir()
    run.rename(folder / "run")
    (folder / "runs").rmdir()
    assert tiny.command("export", folder / "run", folder / "exported") == 0
    shutil.copytree(images / "ant", folder / "dog")
    write_entries(folder / "entries", folder)


def write_idx(folder: Path, contents: list[bytes], labels: list[int]) -> None:
    folder.mkdir()
    pixels = b"".join(np.asarray(Image.open(io.BytesIO(content)).convert("L")).tobytes() for content in contents)
    with gzip.open(folder / "images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">IIII", 0x803, len(contents), 8, 8) + pixels)
    with gzip.open(folder / "labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">II", 0x801, len(labels)) + bytes(labels))


def write_entries(folder: Path, world: Path) -> None:
    """A registry of the world's own."""
    given = {
        "data": str(world / "set"),
        "evaluation": {"per_class": 0},
        "train": {"batch": 4, "kimg": 0.008, "trackers": []},
    }
    transfer = {"extends": "hyper-mod-b", "summary": "tiny", "source": str(world / "source"), **given}
    scratch = {
        "summary": "scratch",
        "backbone": {"name": "stylegan1", **tiny.BACKBONE},
        "discriminator": {"name": "stylegan1", **tiny.DISCRIMINATOR},
        **given,
    }
    target = {"name": "a", "data": str(world / "set"), "source": str(world / "source")}
    study = {
        **{"title": "small", "summary": "small", "kimg": 0.008, "per_class": 2, "metrics": ["fd"], "seeds": [0]},
        **{"set": ["train.batch=4"], "targets": [target], "rows": [{"name": "b", "experiment": "hyper-mod-b"}]},
    }
    tables = {
        "experiments/tiny": transfer,
        "experiments/scratch": scratch,
        "datasets/mine": {"summary": "mine", "path": str(world / "set")},
        "studies/small": study,
    }
    for name, table in tables.items():
        path = folder / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tomli_w.dumps(table), encoding="utf-8")


def contents(folder: Path) -> dict[str, str]:
    """Path -> digest of every file below a folder. Locks are no content."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".claims" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def unreadable(path: Path) -> str | None:
    """What is wrong with a file that a command has written and said nothing of; None where it is whole."""
    if path.name.endswith(".partial") or ".packing" in str(path):
        return "half-written"
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
        elif path.suffix in (".json", ".jsonl"):
            text = path.read_text(encoding="utf-8")
            for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
                json.loads(part)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                tar.getmembers()
    except Exception as error:
        return repr(error)
    return None
