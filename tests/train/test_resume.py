"""A run that was interrupted anywhere and resumed is the run that was not, bit for bit."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from hmgan.train import checkpoint, rundir
from hmgan.train.trainer import Trainer

# Everything that draws numbers or keeps a state of its own: views, lazy R1 off the snapshots' beat, mixing, mirroring.
COMMON = tiny.options(
    r1__every=3,
    train__batch=4,
    loader__mirror="true",
    train__tick=0.004,
    train__snap=0.008,
    train__trackers="[]",
    compute__threads=1,
)
GAN = [*COMMON, *tiny.options(task__mixing=0.9)]
TRANSFER = [*GAN, *tiny.options(contrastive__weight=0.1)]
TIMES = {"seconds", "sec_per_kimg", "mem_gib", "tflops", "time"}

PRETRAIN = """
summary = "tiny"
[backbone]
name = "stylegan1"
resolution = 8
channels = [8, 8]
z_dim = 8
mapping_layers = 2
[discriminator]
name = "stylegan1"
resolution = 8
channels = [8, 8]
"""


class Interrupted(BaseException):
    """As a signal would end the process: no handler of ours sees it."""


def transfer_arguments(shards, source, outdir, *more):
    where = ["--data", shards, "--source", source, "--outdir", outdir]
    return ["train", "hyper-mod-c", *where, *TRANSFER, *more]


def interrupt_at(monkeypatch, step):
    """The next run dies in the middle of that step, with D's half of it done."""
    original = Trainer._minimise

    def die(self, phase, parts):
        if self.step == step and phase.average is not None:
            raise Interrupted
        return original(self, phase, parts)

    monkeypatch.setattr(Trainer, "_minimise", die)


def run_of(outdir) -> Path:
    (folder,) = outdir.iterdir()
    return folder


def lines(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def assert_same_run(one, other, *extra):
    """Checkpoint, snapshot, statistics, scores: equal to the last bit."""
    last, also = (checkpoint.newest(run / "checkpoints") for run in (one, other))
    assert last.name == also.name
    a, b = (load_file(folder / checkpoint.TENSORS) for folder in (last, also))
    assert a.keys() == b.keys()
    parts = {name.split("/")[0] for name in a}
    game = ("discriminator", "disc_optimizer") if rundir.read_config(one).task.name == "gan" else ()
    assert parts == {"generator", "ema", "gen_optimizer", *game, *extra}
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different
    assert json.loads((last / checkpoint.STATE).read_text()) == json.loads((also / checkpoint.STATE).read_text())
    for name in ("stats.jsonl", "metrics.jsonl"):
        assert (one / name).is_file() == (other / name).is_file()
        assert not (one / name).is_file() or lines(one / name) == lines(other / name)
    weights = [sorted((run / "snapshots").glob("*/model.safetensors"))[-1].read_bytes() for run in (one, other)]
    assert weights[0] == weights[1]


@pytest.fixture(scope="module")
def ten_steps(shards, source, tmp_path_factory):
    """The uninterrupted run."""
    outdir = tmp_path_factory.mktemp("whole")
    assert tiny.command(*transfer_arguments(shards, source, outdir, "--kimg", 0.04)) == 0
    return run_of(outdir)


@pytest.mark.parametrize("step", [1, 6, 7], ids=["before-any-checkpoint", "at-a-checkpoint", "between-checkpoints"])
def test_a_transfer_interrupted_in_a_step_and_resumed_equals_the_uninterrupted_one(
    step, ten_steps, shards, source, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        interrupt_at(patched, step)
        with pytest.raises(Interrupted):
            tiny.command(*transfer_arguments(shards, source, tmp_path / "cut", "--kimg", 0.04))
    folder = run_of(tmp_path / "cut")
    assert tiny.command("train", "hyper-mod-c", "--resume", folder) == 0
    assert len(lines(folder / "stats.jsonl")) == 10
    assert_same_run(ten_steps, folder)


def test_a_pretraining_resumes_exactly(shards, tmp_path, monkeypatch):
    (tmp_path / "registry" / "experiments").mkdir(parents=True)
    (tmp_path / "registry" / "experiments" / "tiny-pretrain.toml").write_text(PRETRAIN)
    begin = ["--registry", tmp_path / "registry", "pretrain", "tiny-pretrain"]
    rest = ["--data", shards, "--kimg", 0.032, *GAN]
    assert tiny.command(*begin, "--outdir", tmp_path / "whole", *rest) == 0
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        with pytest.raises(Interrupted):
            tiny.command(*begin, "--outdir", tmp_path / "cut", *rest)
    assert tiny.command(*begin, "--resume", "latest", "--outdir", tmp_path / "cut") == 0
    assert_same_run(run_of(tmp_path / "whole"), run_of(tmp_path / "cut"))


def test_an_alignment_resumes_exactly(shards, source, tmp_path, monkeypatch):
    def arguments(outdir):
        where = ["--data", shards, "--source", source, "--outdir", outdir, "--kimg", 0.024]
        return ["align", "hyper-mod-c-align", *where, *TRANSFER]

    assert tiny.command(*arguments(tmp_path / "whole")) == 0
    with monkeypatch.context() as patched:
        interrupt_at(patched, 5)
        with pytest.raises(Interrupted):
            tiny.command(*arguments(tmp_path / "cut"))
    assert tiny.command("align", "hyper-mod-c-align", "--resume", run_of(tmp_path / "cut")) == 0
    whole, cut = run_of(tmp_path / "whole"), run_of(tmp_path / "cut")
    assert lines(whole / "stats.jsonl") == lines(cut / "stats.jsonl")
    snapshots = [(run / "snapshots" / "000000.024" / "model.safetensors").read_bytes() for run in (whole, cut)]
    assert snapshots[0] == snapshots[1]


@pytest.mark.slow
def test_a_run_killed_at_a_random_moment_resumes_exactly(shards, source, tmp_path):
    arguments = ["--kimg", 0.12]
    words = map(str, transfer_arguments(shards, source, tmp_path / "cut", *arguments))
    process = subprocess.Popen(
        [sys.executable, "-c", "from hmgan.cli.app import main; main()", *words], stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 120
        while not list((tmp_path / "cut").glob("*/checkpoints/[0-9]*")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(random.SystemRandom().uniform(0, 0.7))  # another moment each time: what is claimed holds at any
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    folder = run_of(tmp_path / "cut")
    assert tiny.command("train", "hyper-mod-c", "--resume", folder) == 0
    assert tiny.command(*transfer_arguments(shards, source, tmp_path / "whole", *arguments)) == 0
    assert_same_run(run_of(tmp_path / "whole"), folder)


def test_scores_are_not_written_twice(shards, source, tmp_path, monkeypatch):
    scored = tiny.options(evaluation__per_class=2)
    assert tiny.command(*transfer_arguments(shards, source, tmp_path / "whole", "--kimg", 0.016, *scored)) == 0
    with monkeypatch.context() as patched:
        # Scores of the second snapshot are in the file and its checkpoint is not: the worst moment to die.
        patched.setattr(Trainer, "save", save_until(4))
        with pytest.raises(Interrupted):
            tiny.command(*transfer_arguments(shards, source, tmp_path / "cut", "--kimg", 0.016, *scored))
    whole, cut = run_of(tmp_path / "whole"), run_of(tmp_path / "cut")
    assert tiny.command("train", "hyper-mod-c", "--resume", cut) == 0
    # Two metrics of three classes and their mean, at kimg 0, 0.008 and 0.016.
    assert len(lines(cut / "metrics.jsonl")) == 3 * 4 * 3
    assert_same_run(whole, cut)


def test_what_the_discriminators_rules_remember_is_resumed(shards, source, tmp_path, monkeypatch):
    chosen = tiny.options(augment__start=0.5, augment__kimg=0.1, regularizer__name="lecam", disc_head="projection")
    more = ("--kimg", 0.032, "--aug", "ada", *chosen)
    assert tiny.command(*transfer_arguments(shards, source, tmp_path / "whole", *more)) == 0
    with monkeypatch.context() as patched:
        interrupt_at(patched, 7)  # p changed after step 4; the signs of two steps are in the last checkpoint
        with pytest.raises(Interrupted):
            tiny.command(*transfer_arguments(shards, source, tmp_path / "cut", *more))
    whole, cut = run_of(tmp_path / "whole"), run_of(tmp_path / "cut")
    assert tiny.command("train", "hyper-mod-c", "--resume", cut) == 0
    assert_same_run(whole, cut, "regularizer", "augment")
    p = [line["augment/p"] for line in lines(whole / "stats.jsonl")]
    assert p[:3] == [0.5] * 3
    assert len(set(p)) == 3  # it moved twice


def save_until(step):
    """In place of `Trainer.save`; dies at that step."""
    original = Trainer.save

    def save(self):
        if self.step == step:
            raise Interrupted
        original(self)

    return save


def test_a_line_cut_short_by_the_kill_is_dropped(tmp_path):
    path = tmp_path / "stats.jsonl"
    path.write_text('{"kimg": 1.0, "x": 1}\n{"kimg": 2.0, "x": 2}\n{"kimg": 3.0, "x"')
    rundir.cut_to(2.0, path, tmp_path / "metrics.jsonl")()
    assert path.read_text() == '{"kimg": 1.0, "x": 1}\n{"kimg": 2.0, "x": 2}\n'


def test_a_line_that_no_training_wrote_is_told_before_anything_is_written(finished, capsys):
    with (finished / "metrics.jsonl").open("a") as file:
        file.write('{"seconds": 1}\n')
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert tiny.command("train", "--resume", finished, "--kimg", 0.02) == 2
    assert "metrics.jsonl has a line that no training wrote" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture(scope="module")
def four_steps(shards, source, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("runs")
    assert tiny.command(*transfer_arguments(shards, source, outdir, "--kimg", 0.016)) == 0
    return run_of(outdir)


@pytest.fixture
def finished(four_steps, tmp_path):
    """A run of four steps, to do with as a test likes."""
    return Path(shutil.copytree(four_steps, tmp_path / four_steps.name))


def spoil(folder):
    """One bit of a checkpoint's tensors turns."""
    path = folder / checkpoint.TENSORS
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_is_gone_on_with(finished, four_steps, capsys):
    before, newest = sorted((finished / "checkpoints").iterdir())
    spoil(newest)
    capsys.readouterr()
    assert tiny.command("train", "hyper-mod-c", "--resume", finished) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [
        f"warning: checkpoint {newest} is damaged: its checksum does not match; renamed to damaged-{newest.name}, "
        "trying the one before",
        f"resumed  {finished} at kimg 0.008",
    ]
    names = {path.name for path in (finished / "checkpoints").iterdir()}
    assert names == {before.name, newest.name, f"damaged-{newest.name}"}
    assert_same_run(four_steps, finished)


def test_what_a_killed_run_left_half_written_is_removed(finished):
    (finished / "snapshots" / ".000000.016.99999999.partial").mkdir()
    for path in (finished, finished / "snapshots" / ".000000.016.99999999.partial"):
        (path / ".fakes.png.99999999.partial").write_bytes(b"half")
    assert tiny.command("train", "hyper-mod-c", "--resume", finished) == 0
    assert not list(finished.rglob(".*.partial"))


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew(finished, capsys):
    for folder in (finished / "checkpoints").iterdir():
        spoil(folder)
    names = sorted((finished / "checkpoints").iterdir())
    expected = f"error: no whole checkpoint is left in {finished / 'checkpoints'}; restore one, or start a new run"
    for _ in range(2):
        assert tiny.command("train", "hyper-mod-c", "--resume", finished) == 2
        assert capsys.readouterr().err.splitlines()[-1] == expected
        assert sorted((finished / "checkpoints").iterdir()) == names


def test_kimg_lengthens_a_finished_run(finished, shards, source, tmp_path):
    assert tiny.command("train", "hyper-mod-c", "--resume", finished, "--kimg", 0.024) == 0
    assert [line["kimg"] for line in lines(finished / "stats.jsonl")] == pytest.approx([0.004 * i for i in range(1, 7)])
    assert rundir.read_config(finished).train.kimg == 0.024
    assert tiny.command(*transfer_arguments(shards, source, tmp_path / "whole", "--kimg", 0.024)) == 0
    assert_same_run(run_of(tmp_path / "whole"), finished)


def test_resuming_a_finished_run_changes_nothing(finished):
    before = {path: path.read_bytes() for path in finished.rglob("*.safetensors")}
    stats = lines(finished / "stats.jsonl")
    assert tiny.command("train", "hyper-mod-c", "--resume", finished) == 0
    assert {path: path.read_bytes() for path in finished.rglob("*.safetensors")} == before
    assert lines(finished / "stats.jsonl") == stats


@pytest.mark.parametrize(
    "extra",
    [["--batch", 8], ["--seed", 3], ["--gamma", 2], ["--mirror"], ["--set", "optimizer.lr=0.1"]],
    ids=lambda extra: extra[0].strip("-"),
)
def test_resuming_under_other_settings_is_refused(extra, finished, capsys):
    before = (finished / "config.json").read_bytes()
    assert tiny.command("train", "hyper-mod-c", "--resume", finished, *extra) == 2
    expected = (
        "error: --resume goes on with the run's own configuration; only --kimg or --set train.kimg, "
        "--set compute.engine, --set compute.checkpoint, --set train.accumulate and, where the same images lie "
        "now, --data and --set evaluation.data may be given too\n"
    )
    assert capsys.readouterr().err.endswith(expected)
    assert (finished / "config.json").read_bytes() == before


def test_resuming_what_is_no_run_is_refused(tmp_path, capsys):
    assert tiny.command("train", "hyper-mod-c", "--resume", tmp_path) == 2
    assert capsys.readouterr().err == f"error: {tmp_path} is not a run directory: config.json is not there\n"
    assert tiny.command("train", "hyper-mod-c", "--resume", "latest", "--outdir", tmp_path) == 2
    expected = f"error: no run to resume in {tmp_path}; give --outdir, or the run directory itself\n"
    assert capsys.readouterr().err == expected


def test_resuming_by_another_verb_is_refused(finished, capsys):
    capsys.readouterr()
    assert tiny.command("pretrain", "hyper-mod-c", "--resume", finished) == 2
    assert capsys.readouterr().err == f"error: {finished} is a run of hmgan train, got hmgan pretrain\n"
