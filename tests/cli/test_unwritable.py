"""A place that cannot be written is one line, whatever the verb."""

from __future__ import annotations

import errno

import pytest
import tiny
from test_cli import refused, train

from hmgan import files


@pytest.fixture
def blocked(tmp_path):
    """A place that nobody can write below, root neither: a file where a folder should be."""
    (tmp_path / "blocked").write_text("a file")
    return tmp_path / "blocked"


@pytest.mark.parametrize("verb", ["pack", "train", "sample", "interpolate", "mix", "inspect"])
def test_a_destination_that_cannot_be_written_is_one_line(verb, blocked, shards, source, tmp_path, capsys):
    words = {
        "pack": ["pack", tiny.write_images(tmp_path / "images", 2), blocked / "out"],
        "train": train(blocked / "runs", shards, source, "--kimg", 0.004),
        "sample": ["sample", "--network", source, "--outdir", blocked / "out", "--seeds", "0"],
        "interpolate": ["interpolate", "--network", "fashion-32", "--out", blocked / "out" / "x.png"],
        "mix": ["mix", "--network", source, "--outdir", blocked / "out", "--seeds", "0", "--with", "1"],
        "inspect": ["data", "inspect", shards, "--grid", blocked / "x.png"],
    }[verb]
    if verb == "interpolate":
        assert tiny.command(*train(tmp_path / "runs", shards, source, "--kimg", 0.004)) == 0
        (words[2],) = (tmp_path / "runs").iterdir()
    capsys.readouterr()
    assert tiny.command(*words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {blocked}")
    reason = "file exists" if verb == "inspect" else "not a directory"
    assert line.endswith(f" cannot be used: {reason}; mend that, or give another place")
    assert blocked.read_text() == "a file"


def test_doctor_refuses_a_place_that_cannot_be_written(blocked, capsys):
    got = refused(capsys, "doctor", "--outdir", blocked / "runs")
    assert got == f"--outdir {blocked / 'runs'} cannot be written: Not a directory; give another one"
    assert blocked.read_text() == "a file"


def test_a_full_disk_is_one_line_that_names_the_output_and_not_a_temporary_file(source, tmp_path, capsys, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    got = refused(capsys, "sample", "--network", source, "--outdir", tmp_path / "out", "--seeds", "0")
    assert got.startswith(f"{tmp_path / 'out'}/")
    assert got.endswith(".png cannot be used: no space left on device; mend that, or give another place")
    assert not list((tmp_path / "out").iterdir())


def test_an_error_that_is_about_no_place_is_not_called_one(monkeypatch):
    def broken(kind):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr("hmgan.commands.listing.print_list", broken)
    with pytest.raises(ConnectionRefusedError):
        tiny.command("list")


def test_too_many_open_files_are_one_line_with_the_limit(monkeypatch, capsys):
    def broken(kind):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("hmgan.commands.listing.print_list", broken)
    assert (
        refused(capsys, "list")
        == "a file cannot be opened: Too many open files; raise that limit with `ulimit -n 4096`"
    )
