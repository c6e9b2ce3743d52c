"""A signal stops a run after a whole step, with a checkpoint; resumed, it is the run that was not stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import tiny
import torch
from safetensors.torch import load_file
from trained import signalled_in

from hmgan.evaluation.judge import Judge
from hmgan.train import checkpoint
from hmgan.train.distributed import signals

SETTINGS = tiny.options(train__batch=4, train__tick=0.004, train__snap=0.02, train__trackers="[]", compute__threads=1)


def arguments(shards, source, outdir, kimg=0.04):
    return ["train", "hyper-mod-b", "--data", shards, "--source", source, "--outdir", outdir, "--kimg", kimg, *SETTINGS]


def newest(outdir):
    (folder,) = outdir.iterdir()
    return checkpoint.newest(folder / "checkpoints")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 85), (signal.SIGUSR1, 85), (signal.SIGINT, 130)], ids=lambda x: str(int(x))
)
def test_a_signal_finishes_the_step_and_saves(number, code, shards, source, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(number)
    with monkeypatch.context() as patched:
        signalled_in(patched, 2, number)
        assert tiny.command(*arguments(shards, source, tmp_path / "cut")) == code
    (folder,) = (tmp_path / "cut").iterdir()
    name = signal.Signals(number).name
    line = f"stopped  by {name} at kimg 0.012; checkpoint 000000003 is saved; to go on: hmgan train --resume {folder}"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert (folder / "log.txt").read_text().splitlines()[-1] == line
    assert newest(tmp_path / "cut").name == "000000003"
    assert signal.getsignal(number) is before


def test_a_signal_is_heard_within_a_second_whatever_the_run_is_doing(capsys):
    stop = signals.Stop()
    with stop.listening():
        began = time.monotonic()
        signal.raise_signal(signal.SIGINT)
        while not capsys.readouterr().err.startswith("SIGINT: stops after this step or snapshot; once more: at once"):
            assert time.monotonic() - began < 1
            time.sleep(0.01)


def test_a_stopped_and_resumed_run_equals_the_whole_one(shards, source, tmp_path, monkeypatch):
    assert tiny.command(*arguments(shards, source, tmp_path / "whole")) == 0
    with monkeypatch.context() as patched:
        signalled_in(patched, 6, signal.SIGTERM)
        assert tiny.command(*arguments(shards, source, tmp_path / "cut")) == 85
    (folder,) = (tmp_path / "cut").iterdir()
    assert tiny.command("train", "hyper-mod-b", "--resume", folder) == 0
    whole, cut = (newest(tmp_path / name) for name in ("whole", "cut"))
    assert json.loads((whole / checkpoint.STATE).read_text()) == json.loads((cut / checkpoint.STATE).read_text())
    a, b = (load_file(path / checkpoint.TENSORS) for path in (whole, cut))
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def test_a_signal_in_the_last_step_changes_nothing(shards, source, tmp_path, monkeypatch):
    signalled_in(monkeypatch, 9, signal.SIGTERM)
    assert tiny.command(*arguments(shards, source, tmp_path)) == 0
    assert newest(tmp_path).name == "000000010"


@pytest.mark.parametrize("call", [1, 2, 3], ids=["the first scores", "scores on the way", "the last scores"])
def test_a_signal_breaks_scores_off_and_the_resumed_run_makes_them(call, shards, source, tmp_path, monkeypatch, capsys):
    scored = tiny.options(evaluation__per_class=2, train__snap=0.004)
    assert tiny.command(*arguments(shards, source, tmp_path / "whole", 0.008), *scored) == 0
    scores, calls = Judge.__call__, []

    def signalled(judge, *drawn):
        calls.append(drawn)
        if len(calls) == call:
            signal.raise_signal(signal.SIGTERM)
        return scores(judge, *drawn)

    with monkeypatch.context() as patched:
        patched.setattr(Judge, "__call__", signalled)
        assert tiny.command(*arguments(shards, source, tmp_path / "cut", 0.008), *scored) == 85
    cut, whole = runs(tmp_path)
    assert "stopped  by SIGTERM" in capsys.readouterr().err  # before or after the line of the thread that hears
    assert len(metrics(cut)) < len(metrics(whole))
    for _ in range(2):  # the second time it is made already
        assert tiny.command("train", "--resume", cut) == 0
        assert metrics(cut) == metrics(whole)
    names = [sorted(path.relative_to(run) for path in run.glob("snapshots/*/*")) for run in (cut, whole)]
    assert names[0] == names[1]


def test_a_run_that_a_signal_stops_before_it_began_is_resumed_from_its_beginning(
    shards, source, tmp_path, monkeypatch, capsys
):
    scored = tiny.options(evaluation__per_class=2, train__snap=0.004)
    assert tiny.command(*arguments(shards, source, tmp_path / "whole", 0.004), *scored) == 0
    features = Judge.features_of

    def signalled(judge, *wanted):
        signal.raise_signal(signal.SIGINT)
        return features(judge, *wanted)

    with monkeypatch.context() as patched:
        patched.setattr(Judge, "features_of", signalled)
        assert tiny.command(*arguments(shards, source, tmp_path / "cut", 0.004), *scored) == 130
    cut, whole = runs(tmp_path)
    assert f"stopped  by SIGINT before it began; to go on: hmgan train --resume {cut}" in capsys.readouterr().err
    assert tiny.command("train", "--resume", cut) == 0
    assert metrics(cut) == metrics(whole)
    assert (cut / "fakes_init.png").read_bytes() == (whole / "fakes_init.png").read_bytes()


def runs(folder):
    """The run that was cut and the whole one."""
    (cut,), (whole,) = ((folder / name).iterdir() for name in ("cut", "whole"))
    return cut, whole


def metrics(run):
    """The scores of a run, without their times."""
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def test_off_the_main_thread_signals_are_left_alone():
    seen = []

    def listen():
        with signals.Stop().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


STUCK = """
import ctypes, threading
from hmgan.train.distributed.signals import Stop, ended_by_signals
lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
def hang():
    threading.Timer(0.3, print, ["ready"], {"flush": True}).start()
    while True:  # as in a collective: the second time it never returns, whatever signal comes
        libc.pthread_mutex_lock(lock)
def listening():
    with Stop().listening():
        hang()
WHAT
"""
HEARD = {
    "listening()": "SIGTERM: stops after this step or snapshot; once more: at once",
    "ended_by_signals(hang)": "SIGTERM: ends this command; once more: at once",
}


@pytest.mark.parametrize("what", HEARD)
def test_an_echo_is_the_same_request_and_a_second_signal_leaves_at_once_even_from_a_call_that_hangs(what):
    script = [sys.executable, "-c", STUCK.replace("WHAT", what)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        time.sleep(signals.ECHO + 0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=5)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert said == f"{HEARD[what]}\nSIGTERM again: leaving at once; what was saved is whole\n"


def test_a_signal_of_a_forked_process_is_not_this_ones(capfd):
    with signals.Stop().listening():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        os.waitpid(child, 0)
    assert capfd.readouterr().err == ""


class Before:
    """Sends SIGTERM before the n-th line that is run in some files."""

    def __init__(self, n: int, files: list[str]) -> None:
        self.n, self.files, self.lines = n, files, 0

    def __call__(self, frame, event, argument):
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.n:
                signal.raise_signal(signal.SIGTERM)
        return self


def train() -> None:
    with signals.Stop().listening():
        pass


@pytest.fixture
def outer():
    """The signals that come to what handled them before."""
    got = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
    yield got
    signal.signal(signal.SIGTERM, before)


def test_a_signal_before_any_line_is_obeyed_once_in_whole_lines_and_leaves_nothing_behind(outer, capsys):
    handler, threads, tracing = signal.getsignal(signal.SIGTERM), threading.active_count(), sys.gettrace()
    ends = set()
    for n in range(1, 10_000):
        before, code = Before(n, [signals.__file__, contextlib.__file__]), 0
        sys.settrace(before)
        try:
            signals.ended_by_signals(train)
        except SystemExit as error:
            code = error.code
        finally:
            sys.settrace(tracing)
        wakeup = signal.set_wakeup_fd(-1)
        left = signal.getsignal(signal.SIGTERM), threading.active_count(), wakeup, signals._pipes
        assert left == (handler, threads, -1, [])
        if before.lines < n:
            break
        ends.add((code, len(outer), capsys.readouterr().err))
        outer.clear()
    assert ends == {
        (143, 0, "SIGTERM: ends this command; once more: at once\nstopped by SIGTERM\n"),
        (0, 0, "SIGTERM: stops after this step or snapshot; once more: at once\n"),
        (0, 1, ""),
    }
