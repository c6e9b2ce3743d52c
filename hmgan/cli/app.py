"""The command line: its verbs, and how errors are shown. What a verb runs is imported when it is called."""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import signal
import sys
import threading
import traceback
import unicodedata
from contextlib import suppress
from operator import not_
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any

import typer

from hmgan import __version__
from hmgan.cli.command import command, lazy, read
from hmgan.errors import UserError, lacking, one_line, redacted, refusal
from hmgan.options.data import PackOptions, ShowOptions
from hmgan.options.models import CentresOptions, ClassesOptions, EvaluateOptions, ExportOptions, PushOptions
from hmgan.options.pictures import ExploreOptions, InterpolateOptions, MixOptions, ProjectOptions, SampleOptions
from hmgan.options.study import CompareOptions, DemoOptions
from hmgan.options.training import TRAINING, DoctorOptions, LaunchOptions
from hmgan.train.distributed.signals import ended_by_signals
from hmgan.urls import checked

# What a mistake on the command line itself raises: UsageError, which typer does not export by name.
WrongUse: Any = typer.BadParameter.__base__
# What comes after the EXPERIMENT of `hmgan launch` is for `hmgan train` to read.
TRAINS_OPTIONS = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}

PLAIN = {
    **{"UPWARDS ARROW": "^", "DOWNWARDS ARROW": "v", "RIGHTWARDS ARROW": ">", "HORIZONTAL ELLIPSIS": "."},
    **{"EN DASH": "-", "MINUS SIGN": "-", "NO-BREAK SPACE": " ", "MULTIPLICATION SIGN": "x", "PLUS-MINUS SIGN": "~"},
}

app = typer.Typer(
    name="hmgan",
    help="Class-conditional GANs from unconditional ones, by hyper-modulation.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data = typer.Typer(help="Looks at packed images.", no_args_is_help=True)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hmgan {__version__}")
        raise typer.Exit


@app.callback()
def common(
    registry: Annotated[list[Path] | None, typer.Option(help="Folder with registry entries of your own.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Class-conditional GANs from unconditional ones, by hyper-modulation."""
    if registry:
        from hmgan.config import entries

        for folder in registry:
            entries.add(folder)


def list_(
    kind: Annotated[str | None, typer.Argument(help="For example experiments; left out: all kinds.")] = None,
) -> None:
    """The registry: what can be named in an experiment or on the command line.

    For example: hmgan list experiments
    """
    from hmgan.commands.listing import print_list

    print_list(kind)


def index(
    place: Annotated[str, typer.Argument(help="A folder or URL of WebDataset shards.")],
    classes: Annotated[str | None, typer.Option(help="Names of the classes 0, 1, ..., joined by commas.")] = None,
    background: Annotated[str | None, typer.Option(help="Colour behind transparent pixels; left out: white.")] = None,
    leave_out_unlabelled: Annotated[
        bool, typer.Option("--leave-out-unlabelled", help="Index the others where samples have no label.")
    ] = False,
) -> None:
    """Writes the index beside shards that others made.

    For example: hmgan index shards
    """
    from hmgan.commands.data import index

    index(place, classes.split(",") if classes else None, background, leave_out_unlabelled)


@data.command()
def inspect(
    data: Annotated[str, typer.Argument(help="A folder, a URL, or a name of `hmgan list datasets`.")],
    grid: Annotated[Path | None, typer.Option(help="Draw the first images of each class into this PNG.")] = None,
) -> None:
    """Counts, sizes, a histogram of the classes and a picture of them.

    For example: hmgan data inspect fashion-close
    """
    from hmgan.commands.data import inspect

    inspect(data, grid)


@data.command()
def verify(data: Annotated[str, typer.Argument(help="A folder or URL.")]) -> None:
    """Reads every byte and decodes every image.

    For example: hmgan data verify shards
    """
    from hmgan.commands.data import verify

    verify(data)


def import_(
    checkpoint: Annotated[Path, typer.Argument(help="A .pkl or .pt of StyleGAN 1, 2 or 3: docs/importing.md.")],
    out: Annotated[Path, typer.Argument(help="A new folder for the source.")],
    resolution: Annotated[
        int | None, typer.Option(min=4, help="Output pixels, of a StyleGAN1; left out: the highest in the file.")
    ] = None,
    stddev_group: Annotated[
        int | None,
        typer.Option(min=0, help="Samples of D's minibatch deviation; 0: the batch; left out: the file's, or 4."),
    ] = None,
) -> None:
    """Reads a foreign checkpoint into safetensors, with a report of every tensor.

    For example: hmgan import ffhq.pkl ffhq
    """
    from hmgan.importers.convert import import_checkpoint

    import_checkpoint(checkpoint, out, resolution=resolution, stddev_group=stddev_group)


app.command("list")(list_)
app.command("show")(command(ShowOptions, lazy("hmgan.commands.show:print_entry")))
app.command("pack")(command(PackOptions, lazy("hmgan.commands.pack:pack_images")))
app.command("index")(index)
app.add_typer(data, name="data")
app.command("import")(import_)
for verb, training in TRAINING.items():
    app.command(verb)(command(training, lazy("hmgan.train.command:train")))
app.command("evaluate")(command(EvaluateOptions, lazy("hmgan.commands.evaluate:print_scores")))
app.command("sample")(command(SampleOptions, lazy("hmgan.commands.sample:draw_samples")))
app.command("interpolate")(command(InterpolateOptions, lazy("hmgan.commands.interpolate:draw_interpolation")))
app.command("demo")(command(DemoOptions, lazy("hmgan.commands.demo:run_demo")))
app.command("compare")(command(CompareOptions, lazy("hmgan.study.run:compare", failed=bool)))
app.command("export")(command(ExportOptions, lazy("hmgan.commands.export:export")))
app.command("mix")(command(MixOptions, lazy("hmgan.commands.mix:draw_mixes")))
app.command("explore")(command(ExploreOptions, lazy("hmgan.commands.explore:explore")))
app.command("classes")(command(ClassesOptions, lazy("hmgan.commands.classes:classes")))
app.command("centres")(command(CentresOptions, lazy("hmgan.commands.centres:keep_centres")))
app.command("project")(command(ProjectOptions, lazy("hmgan.commands.project:project")))
app.command("push")(command(PushOptions, lazy("hmgan.commands.push:push")))
app.command("launch", context_settings=TRAINS_OPTIONS)(
    command(LaunchOptions, lazy("hmgan.launch.command:launch", read))
)
app.command("doctor")(command(DoctorOptions, lazy("hmgan.doctor.command:doctor", failed=not_)))


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints a fault of hmgan's own, with its traceback and without the secrets of URLs in it."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _told_by_thread(of: threading.ExceptHookArgs) -> None:
    """The same of a thread's, which ends the thread alone."""
    if of.exc_value is not None and of.exc_type is not SystemExit:
        _told(of.exc_type, of.exc_value, of.exc_traceback)


def _logged(*given: Any, **more: Any) -> logging.LogRecord:
    """A library's log record, without the secrets of URLs in it."""
    record = logging.LogRecord(*given, **more)
    with suppress(TypeError, ValueError, KeyError):  # a message that does not fit its arguments is told by logging
        record.msg, record.args = redacted(record.getMessage()), ()
    return record


def filled(words: list[str]) -> list[str]:
    """The words.

    Raises: UserError for an empty one, for a shell's variable that is not set must not become a default; and for one
        that is no text, for safetensors finds no file by it.
    """
    for before, word in zip(["hmgan", *words], words, strict=False):
        if not word or re.fullmatch("--[a-z-]+=", word):
            raise UserError(f"{(word or before).rstrip('=')} got '', an empty value; give one, or leave it out")
        if re.search("[\udc80-\udcff]", word):
            raise UserError(f"got {os.fsencode(word)!r}, which is not UTF-8; rename what has this name, and give that")
    return words


def wrong_use(error: Any) -> str:
    """The message of typer, with the value that it is about, which only its cause has."""
    from pydantic import ValidationError  # typer has imported it, to check with

    text, cause = str(error.format_message()), error.__cause__
    if not isinstance(cause, ValidationError):
        return text
    return redacted(f"{text.rstrip('.')}, got {cause.errors()[0]['input']!r}")


def plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that a terminal's encoding lacks: what is as wide, so that tables stay tables."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(unicodedata.name(character, ""), "?") for character in lacking), error.end


def main() -> None:
    """The `hmgan` command, as a process of its own."""
    # Once the command has ended, nothing is left to break off while torch is unloaded, which takes a while.
    run(signal.SIG_IGN)


def run(afterwards: signal.Handlers | None = None) -> None:
    """What sys.argv says. A mistake of the user's is one line and exit code 2; a signal, a line and its own code.

    Args:
        afterwards: what handles the signals once the command has ended; left out, what did before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch reads it: spinning threads starve each other
    sys.excepthook, threading.excepthook = _told, _told_by_thread
    logging.setLogRecordFactory(_logged)
    codecs.register_error("plain", plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")
    ended_by_signals(_run, afterwards)


def _run() -> None:
    try:
        checked(sys.argv[1:])
        code = app(filled(sys.argv[1:]) or ["--help"], standalone_mode=False)
    except (UserError, WrongUse) as error:
        text = str(error) if isinstance(error, UserError) else wrong_use(error)
        print(f"error: {one_line(text)}", file=sys.stderr)
        code = 2
    except (OSError, MemoryError, RuntimeError) as error:
        if (line := refusal(error) if isinstance(error, OSError) else lacking(error)) is None:
            raise
        print(f"error: {one_line(line)}", file=sys.stderr)
        code = 2
    except typer.Abort:
        print("aborted", file=sys.stderr)
        code = 1
    sys.exit(code or 0)
