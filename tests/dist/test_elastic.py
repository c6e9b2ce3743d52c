"""A run that is stopped on 4 ranks, killed on 2 and finished on 3 trains what one process does, to rounding."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from functools import partial

import launched
import pytest
import tiny
import torch
from safetensors.torch import load_file

from hmgan.train import command, draws, optim
from hmgan.train.checkpoint import TENSORS
from hmgan.train.trainer import Trainer

BATCH, STEPS, PAUSE = 48, 12, 0.15  # whole groups of 4 for minibatch-stddev on 1, 2, 3 and 4 ranks; seconds a step
SETTINGS = tiny.options(
    train__batch=BATCH,
    train__tick=0.048,
    train__snap=0.096,
    train__checkpoints=8,
    train__trackers="[]",
    compute__threads=1,
    loader__mirror="true",
    task__freeze="[]",
    r1__every=2,
)
IMAGES = 36  # of the tiny data set: 12 steps of 48 are 16 epochs
IN_FLOAT64 = 1e-10  # of a tensor's largest entry
# Adam's step is lr * g / (|g| + 1e-8): where a gradient is of the size of its own rounding, so is the step's error.
IN_FLOAT32 = 2e-3
# With an epsilon far above the gradients its step is in proportion to them, as in SGD.
WITHOUT_ENLARGEMENT = 1e-5


def in_float64() -> None:
    """The files hold float32, so that every run begins from the same numbers."""
    prepare, as_images = command.prepare, draws.as_images

    def prepared(*arguments):
        torch.set_default_dtype(torch.float64)
        done = prepare(*arguments)
        for network in done.networks:
            network.double()
        return done

    command.prepare = prepared
    draws.as_images = lambda images: as_images(images).double()


def with_large_epsilon() -> None:
    adam = optim.Adam
    optim.Adam = lambda *groups, **options: adam(*groups, **options | {"eps": 1.0})


def as_it_is() -> None:
    pass


def observed(folder, change) -> None:
    """Each rank writes down the images of every step, and takes its time."""
    change()
    step = Trainer.take_step

    def noted(trainer, batch):
        time.sleep(PAUSE)
        images = [hash_of(image) for image in batch.images]
        line = json.dumps([trainer.step, trainer.runtime.rank, trainer.runtime.world, images])
        with (folder / f"drawn-{os.getpid()}.jsonl").open("a") as file:
            file.write(line + "\n")
        return step(trainer, batch)

    Trainer.take_step = noted


def hash_of(image) -> str:
    return image.numpy().tobytes().hex()[:24]


def begin(folder, ranks, shards, source, change):
    outdir = folder / "runs"
    where = ["--resume", "latest", "--outdir", outdir]
    if not outdir.exists():
        kimg = STEPS * BATCH / 1000
        where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", kimg, *SETTINGS]
    prepare = partial(observed, folder, change)
    return launched.start(["train", "hyper-mod-b", *where], ranks, folder / "said", prepare)


def finished(folder):
    (path,) = (folder / "runs").glob(f"*/checkpoints/{STEPS:09d}/{TENSORS}")
    return load_file(path)


def alone(folder, shards, source, change):
    ranks = begin(folder, 1, shards, source, change)
    assert ranks.codes() == [0], ranks.said()
    return finished(folder)


def moved_about(folder, shards, source, change):
    """SIGTERM on 4 ranks, SIGKILL on 2, to the end on 3."""
    ranks = begin(folder, 4, shards, source, change)
    try:
        ranks.until(lambda: steps_of(folder, 4) >= 3)
        ranks.signal(2, signal.SIGTERM)
        assert ranks.codes() == [85] * 4, ranks.said()
        ranks = begin(folder, 2, shards, source, change)
        ranks.until(lambda: steps_of(folder, 2) >= 4)
        ranks.kill()
        ranks = begin(folder, 3, shards, source, change)
        assert ranks.codes() == [0] * 3, ranks.said()
    finally:
        ranks.kill()
    return finished(folder)


def steps_of(folder, world):
    """How many steps have begun under so many ranks."""
    return len({step for step, _, ranks, _ in drawn(folder) if ranks == world})


def drawn(folder):
    """(step, rank, world, images) of every step that was begun, also of those that a kill took back."""
    lines = [line for path in folder.glob("drawn-*.jsonl") for line in path.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def largest_difference(one, other):
    """Of a tensor's largest entry, and the tensor."""
    assert one.keys() == other.keys()
    return max(
        (float((one[name].double() - value.double()).abs().max()) / (float(value.double().abs().max()) or 1.0), name)
        for name, value in other.items()
    )


def test_a_run_on_4_then_2_then_3_ranks_equals_one_process_and_draws_each_image_once_an_epoch(
    shards, source, tmp_path, capsys
):
    (tmp_path / "alone").mkdir()
    (tmp_path / "moved").mkdir()
    expected = alone(tmp_path / "alone", shards, source, in_float64)
    found = moved_about(tmp_path / "moved", shards, source, in_float64)
    assert found["generator/modulation.heads.0.scale.weight"].dtype == torch.float64
    worst, name = largest_difference(found, expected)
    with capsys.disabled():
        print(f"\n4 -> 2 -> 3 ranks, float64: {worst:.1e} of the largest entry of {name}")
    assert worst < IN_FLOAT64

    steps = drawn(tmp_path / "moved")
    worlds = {
        world: sorted(step for step, rank, ranks, _ in steps if ranks == world and rank == 0) for world in (4, 2, 3)
    }
    assert worlds[4][0] == 0
    assert worlds[2][0] == worlds[4][-1] + 1  # SIGTERM: nothing is done twice
    assert worlds[2][0] < worlds[3][0] <= worlds[2][-1] + 1  # SIGKILL: from the last checkpoint on
    assert worlds[3][-1] == STEPS - 1
    # What a kill took back does not count.
    first_of_3 = worlds[3][0]
    kept = [line for line in steps if line[2] != 2 or line[0] < first_of_3]
    images = [image for _, _, _, images in sorted(kept) for image in images]
    assert len(images) == STEPS * BATCH
    epochs = [Counter(images[first : first + IMAGES]) for first in range(0, len(images), IMAGES)]
    assert all(len(epoch) == IMAGES for epoch in epochs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "bound"), [(as_it_is, IN_FLOAT32), (with_large_epsilon, WITHOUT_ENLARGEMENT)], ids=["adam", "epsilon-1"]
)
def test_in_float32_the_difference_is_adams_enlargement_of_rounding(change, bound, shards, source, tmp_path, capsys):
    (tmp_path / "alone").mkdir()
    (tmp_path / "moved").mkdir()
    expected = alone(tmp_path / "alone", shards, source, change)
    worst, name = largest_difference(moved_about(tmp_path / "moved", shards, source, change), expected)
    with capsys.disabled():
        print(f"\n4 -> 2 -> 3 ranks, float32, {change.__name__}: {worst:.1e} of the largest entry of {name}")
    assert worst < bound
