"""Real commands on 1,000 classes, signalled while they draw and while they score: a line at once, then an end."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest
import tiny
from at_work import at_work
from PIL import Image

from hmgan.data.pack.pack import pack

CLASSES = 1000
SHORT = tiny.options(train__batch=4, train__kimg=0.004, train__snap=0.004, train__trackers="[]")
LONG = tiny.options(train__batch=4, train__snap=0.004, train__trackers="[]")
WAITS, LEAVES = "stops after this step or snapshot; once more: at once", "ends this command; once more: at once"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two images of each of 1,000 classes, packed."""
    folder = tmp_path_factory.mktemp("many")
    pixels = np.random.default_rng(0).integers(0, 256, (CLASSES, 2, 8, 8, 3), np.uint8)
    for label in range(CLASSES):
        (folder / "images" / f"{label:04d}").mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels[label, i]).save(folder / "images" / f"{label:04d}" / f"{i}.png")
    pack(folder / "images", folder / "set", report=lambda line: None)
    return folder / "set"


@pytest.fixture
def run(many, source, tmp_path):
    """A finished run on them."""
    words = ["--data", many, "--source", source, "--outdir", tmp_path / "runs"]
    assert tiny.command("train", "hyper-mod-b", *words, *SHORT) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    return folder


def pictures(folder):
    """Whether the pictures are being drawn."""
    return bool(list(folder.glob("runs/*/reals.png")))


def scores(folder):
    """Whether the fakes of a training are being drawn and scored."""
    return any("scoring  1,000 classes" in log.read_text() for log in folder.glob("runs/*/log.txt"))


def features(folder):
    """Whether the features of the real images are at hand, which those of the fakes follow."""
    return bool(list(folder.glob("cache/features/f*.safetensors")))


def signalled(number, begun, folder, words):
    """Exit code, seconds until a line and until the end, and stderr of `hmgan WORDS`, signalled within some work."""
    cache = str(folder / "cache")
    with at_work(words, lambda _: begun(folder), 300, HMGAN_CACHE=cache) as process:
        began, said = time.monotonic(), []
        process.send_signal(number)
        for line in process.stderr:
            said.append(line)
            if line.startswith(number.name):
                break
        heard = time.monotonic() - began
        said += process.stderr
        return process.wait(60), heard, time.monotonic() - began, "".join(said)


def whole(folder):
    """Whether nothing half-written lies there."""
    return not [path for path in folder.rglob("*") if "partial" in path.name or path.suffix == ".tmp"]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 85)], ids=lambda x: str(int(x)))
@pytest.mark.parametrize(
    ("begun", "scored", "end"),
    [
        (pictures, 0, "at kimg 0.004; checkpoint 000000001 is saved"),
        (scores, 2, "at kimg 0.000; nothing was trained yet"),
    ],
    ids=["the pictures", "the scores"],
)
def test_a_training_hears_within_a_second_and_ends_soon(begun, scored, end, number, code, many, source, tmp_path):
    words = ["train", "hyper-mod-b", "--data", many, "--source", source, "--outdir", tmp_path / "runs"]
    words += ["--metrics", scored, *LONG]
    ended, heard, stopped, said = signalled(number, begun, tmp_path, words)
    print(f"\n{number.name} within {begun.__name__}: heard after {heard:.2f} s, ended after {stopped:.1f} s")
    assert (ended, heard < 1, whole(tmp_path)) == (code, True, True), said
    assert f"{number.name}: {WAITS}" in said
    assert f"stopped  by {number.name} {end}; to go on: hmgan train --resume" in said
    assert stopped < 30
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=lambda x: str(int(x)))
def test_an_evaluation_hears_within_a_second_and_adds_no_scores(number, code, run, tmp_path):
    words = ["evaluate", run, "--per-class", 64, "--metrics", "fd,kd"]
    ended, heard, stopped, said = signalled(number, features, tmp_path, words)
    print(f"\n{number.name} while fakes are scored: heard after {heard:.2f} s, ended after {stopped:.1f} s")
    assert (ended, heard < 1, whole(tmp_path)) == (code, True, True), said
    assert said.endswith(f"{number.name}: {LEAVES}\nstopped by {number.name}\n")
    assert not (run / "metrics.jsonl").exists()
