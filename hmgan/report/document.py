"""A small document, written as Markdown and as one HTML file that needs nothing else.

All text is plain: whatever a class or a file is called, it is shown and never interpreted.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, Template
from PIL import Image

from hmgan.files import write_atomically

MARKDOWN, HTML = "REPORT.md", "report.html"
# CSS pixels. Narrower pictures are enlarged by a whole number up to SMALL; wider ones than PAGE shrink to it.
SMALL, PAGE = 480, 912


class Picture(NamedTuple):
    """A PNG beside the report."""

    path: str  # relative to the report's folder
    caption: str
    alt: str
    width: int | None = None  # CSS pixels; None: its own pixels, sharp when enlarged
    dark: str | None = None  # another PNG of the same size, for readers who prefer dark pages


class Column(NamedTuple):
    """A column of a table."""

    title: str
    numeric: bool = True  # right-aligned


class TableRow(NamedTuple):
    """A row of a table, a text per column."""

    cells: Sequence[str]
    strong: bool = False


class Table(NamedTuple):
    """A table with its caption."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]
    wide: bool = False  # never beside another table


class Command(NamedTuple):
    """A command line, and what it is for."""

    what: str
    line: str


class Section(NamedTuple):
    """Shown in the order of the fields; each may be empty."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()  # footnotes of the tables
    pictures: Sequence[Picture] = ()
    commands: Sequence[Command] = ()


class Report(NamedTuple):
    """A whole document."""

    title: str
    lead: str
    facts: Mapping[str, str]
    sections: Sequence[Section]


def write_report(report: Report, folder: Path) -> None:
    """Writes REPORT.md and report.html, each all or nothing. The pictures must be in `folder` already.

    Sections that hold nothing but their title are left out.

    Raises: FileNotFoundError for a picture that is not there; ValueError for a row of the wrong length.
    """
    report = report._replace(sections=[section for section in report.sections if any(section[1:])])
    # Both texts before either file, so that a mistake leaves both as they were.
    for path, text in [(folder / MARKDOWN, markdown(report)), (folder / HTML, html(report, folder))]:
        write_atomically(path, lambda part, t=text: part.write_text(t, encoding="utf-8"))  # type: ignore[misc]


def markdown(report: Report) -> str:
    """GitHub's Markdown, pictures as relative links."""
    blocks = [f"# {_md(report.title)}", _md_block(report.lead)]
    if report.facts:
        facts = Table("", (Column("", False), Column("", False)), [TableRow(fact) for fact in report.facts.items()])
        blocks.append(_md_table(facts))
    for section in report.sections:
        blocks.append(f"## {_md(section.title)}")
        blocks += [_md_block(text) for text in section.text]
        for table in section.tables:
            blocks += [f"**{_md(table.title)}**", _md_table(table)]
        blocks += [_md_block(note) for note in section.notes]
        for picture in section.pictures:
            blocks += [f"![{_md(picture.alt)}]({quote(picture.path)})", f"*{_md(picture.caption)}*"]
        for command in section.commands:
            blocks += [_md_block(command.what), _md_code(command.line)]
    return "\n\n".join(blocks) + "\n"


def html(report: Report, folder: Path) -> str:
    """One file: pictures, read from `folder`, and style are inside, and there is no script."""
    size, uri = partial(_size, folder), partial(_data_uri, folder)
    return _template().render(report=report, cells=_cells, size=size, uri=uri)


@cache
def _template() -> Template:
    loader = PackageLoader("hmgan", "report")
    templates = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    templates.filters["plain"] = _plain
    return templates.get_template("template.html")


def _plain(text: str) -> str:
    """On one line."""
    return " ".join(text.split())


def _md(text: str) -> str:
    """Plain text that Markdown shows as it is, inside a line."""
    return re.sub(r"([\\`*_\[\]<>|~$])", r"\\\1", _plain(text).replace("&", "&amp;"))


def _md_block(text: str) -> str:
    """The same for a paragraph, where the first characters could begin a heading, a list or a rule."""
    return re.sub(r"^(?=[#+=-])|^(\d+)(?=[.)](\s|$))", r"\1\\", _md(text))


def _md_table(table: Table) -> str:
    lines = [[_md(column.title) for column in table.columns]]
    lines.append(["---:" if column.numeric else "---" for column in table.columns])
    for row in table.rows:
        cells = [_md(cell) for cell in _cells(row, table)]
        lines.append([f"**{cell}**" if row.strong and cell else cell for cell in cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _md_code(line: str) -> str:
    """A fence longer than any run of backticks inside."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence}sh\n{line}\n{fence}"


def _size(folder: Path, picture: Picture) -> tuple[int, int, bool]:
    """Width and height in CSS pixels, and whether the file has more of them than are shown."""
    with Image.open(folder / picture.path) as image:
        width, height = image.size
    shown = picture.width or min(PAGE, width * max(1, SMALL // width))
    return shown, round(height * shown / width), shown < width


def _data_uri(folder: Path, path: str) -> str:
    return f"data:image/png;base64,{base64.b64encode((folder / path).read_bytes()).decode('ascii')}"


def _cells(row: TableRow, table: Table) -> Sequence[str]:
    if len(row.cells) != len(table.columns):
        raise ValueError(f"a row of table {table.title!r} must have {len(table.columns)} cells, got {row.cells}")
    return row.cells
