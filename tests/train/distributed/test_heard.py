"""Real runs of 1,000 classes, signalled while they draw and while they score: a line at once, an end that is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from PIL import Image

from hmgan.data.pack.pack import pack

CLASSES = 1000
HEARD = "SIGINT: stops after this step or snapshot; once more: at once"


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


def first(stream, wanted):
    """The first line that begins so, and when it came."""
    for line in stream:
        if line.startswith(wanted):
            return line.strip(), time.monotonic()
    raise AssertionError(f"no line began with {wanted!r}")


def appeared(outdir, name):
    """Waits for a file of the run."""
    deadline = time.monotonic() + 300
    while not list(outdir.glob(f"*/{name}")):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "after"), [("the first pictures", "reals.png"), ("the scores", "fakes000000.004.png")], ids=lambda x: x
)
def test_a_signal_is_heard_within_a_second_and_its_end_is_told(many, source, tmp_path, at, after):
    words = ["train", "hyper-mod-b", "--data", many, "--source", source, "--outdir", tmp_path, "--metrics", "2"]
    lasting = tiny.options(train__batch=4, train__snap=0.004, train__trackers="[]", evaluation__metrics='["fd"]')
    with subprocess.Popen(
        [sys.executable, "-m", "hmgan", *map(str, words), *lasting],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # where the tests ignore it
    ) as process:
        try:
            appeared(tmp_path, after)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            _, heard = first(process.stderr, HEARD)
            _, stopped = first(process.stderr, "stopped  by SIGINT at kimg 0.004; checkpoint 000000001 is saved")
            assert process.wait(60) == 130
        finally:
            process.kill()
    print(f"\n{at}: heard after {heard - began:.2f} s, stopped after {stopped - began:.1f} s")
    assert heard - began < 1
