"""A signal ends any command with a line and its code, and leaves nothing half-written."""

from __future__ import annotations

import signal
import time
import weakref
from pathlib import Path

import pytest
import tiny
from at_work import at_work


def signalled(number, library, *words, cwd):
    """Exit code and stderr of `hmgan WORDS`, which gets a signal once it has loaded a library: it is at work then."""

    def loaded(process):
        return library in Path(f"/proc/{process.pid}/maps").read_text()

    with at_work(words, loaded, 60, cwd) as process:
        process.send_signal(number)
        return process.wait(60), process.stderr.read()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("words", "library"),
    [
        (["sample", "--network", "fashion-32", "--seeds", "0-9999", "--outdir", "out"], "libtorch_cpu"),
        (["train", "hyper-mod-b", "--data", "fashion-close", "--outdir", "out"], "libtorch_cpu"),
        (["pack", "images", "out", "--resolution", "1024", "--threads", "1"], "_imaging"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else None,
)
def test_a_signal_ends_a_command_with_a_line_and_its_code(words, library, number, code, tmp_path):
    tiny.write_images(tmp_path / "images", 100)
    got, said = signalled(number, library, *words, cwd=tmp_path)
    assert (got, said.splitlines()[-1]) == (code, f"stopped by {signal.Signals(number).name}")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.fixture
def _heard():
    """SIGINT is heard also where the tests run in a shell's background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heard")
def test_a_signal_ends_a_command_also_from_where_python_ignores_exceptions(monkeypatch, capsys):
    def work(kind):
        watched = Thing()
        kept = weakref.ref(watched, lambda _: signal.raise_signal(signal.SIGINT))
        del watched
        assert kept() is None
        time.sleep(20)
        raise AssertionError("was not ended")

    monkeypatch.setattr("hmgan.commands.listing.print_list", work)
    assert tiny.command("list") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped by SIGINT"


class Thing:
    """What a weak reference may refer to."""


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit(7)])
def test_whatever_code_ends_a_command_is_the_commands(raised, monkeypatch, capsys):
    def stop(kind):
        raise raised

    monkeypatch.setattr("hmgan.commands.listing.print_list", stop)
    assert tiny.command("list") == (130 if raised is KeyboardInterrupt else 7)


def test_a_command_leaves_the_handlers_as_they_were():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert tiny.command("list", "tasks") == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
