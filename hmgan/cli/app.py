"""The command line: every verb of it, and what becomes of errors. Heavy imports live inside the verbs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hmgan import __version__
from hmgan.cli import data, models, training
from hmgan.cli.options import Set
from hmgan.errors import UserError

# What a mistake on the command line itself raises: UsageError, which typer does not export by name.
WrongUse: Any = typer.BadParameter.__base__

app = typer.Typer(
    name="hmgan",
    help="Class-conditional GANs from unconditional ones, by hyper-modulation.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@app.command("list")
def list_(
    kind: Annotated[str | None, typer.Argument(help="For example experiments; left out: all kinds.")] = None,
) -> None:
    """The registry: what can be named in an experiment or on the command line."""
    from hmgan.commands.listing import print_list

    print_list(kind)


@app.command()
def show(name: str, set_: Set = None) -> None:
    """A registry entry; of an experiment or a component every setting, what it means and its default."""
    from hmgan.commands.show import print_entry

    print_entry(name, set_ or [])


app.command()(data.pack)
app.command()(data.index)
app.add_typer(data.looks, name="data")
app.command("import")(models.import_)
app.command()(training.pretrain)
app.command()(training.align)
app.command()(training.train)
app.command()(models.evaluate)
app.command()(models.sample)
app.command()(models.interpolate)
app.command()(training.demo)
app.command()(training.compare)
app.command()(models.export)
app.command()(models.mix)
app.command(context_settings=training.TRAINS_OPTIONS)(training.launch)
app.command()(training.doctor)


def main() -> None:
    """The `hmgan` command. A mistake of the user's is one line and exit code 2."""
    try:
        app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except WrongUse as error:
        print(f"error: {error.format_message()}", file=sys.stderr)
        sys.exit(2)
    except typer.Abort:
        print("aborted", file=sys.stderr)
        sys.exit(1)
