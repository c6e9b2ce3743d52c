"""A report says the same in Markdown and in HTML, shows any text as it is, and needs no other file."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from hmgan.report.document import (
    PAGE,
    Column,
    Command,
    Picture,
    Report,
    Section,
    Table,
    TableRow,
    html,
    markdown,
    write_report,
)

HOSTILE = '<script>alert("x")</script> & *bold* [a](b) `c` | {{ report.title }}'
TABLE = Table(
    "FD \u2193",
    (Column("class", numeric=False), Column("before"), Column("after")),
    (TableRow(("bag", "12.3", "4.5")), TableRow(("mean", "12.3", "4.5"), strong=True)),
)


class Reader(HTMLParser):
    """Collects tags with their attributes and all text outside the style sheet."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def report(*sections: Section, title: str = "Title", lead: str = "Lead.", facts: dict | None = None) -> Report:
    return Report(title, lead, facts or {}, sections)


def png(folder, name: str, size: tuple[int, int]) -> str:
    Image.new("RGB", size, "red").save(folder / name)
    return name


def test_both_forms_hold_every_word_and_number(tmp_path):
    section = Section(
        "Scores", text=("Some text.",), tables=(TABLE,), notes=("A note.",), commands=(Command("Run:", "hmgan x"),)
    )
    whole = report(section, facts={"Seed": "7"})
    page = Reader(html(whole, tmp_path))
    for words in ("Title", "Lead.", "Seed", "7", "Scores", "Some text.", "12.3", "4.5", "A note.", "Run:", "hmgan x"):
        assert words in markdown(whole)
        assert words in page.text
    assert page.open == []


def test_numbers_are_right_aligned_and_the_strong_row_is_bold(tmp_path):
    whole = report(Section("S", tables=(TABLE,)))
    lines = markdown(whole).splitlines()
    assert "| --- | ---: | ---: |" in lines
    assert "| **mean** | **12.3** | **4.5** |" in lines
    page = html(whole, tmp_path)
    assert '<tr class="strong"><th scope="row">mean</th><td class="n">12.3</td><td class="n">4.5</td></tr>' in page


def test_hostile_text_is_shown_and_never_interpreted(tmp_path):
    picture = Picture(png(tmp_path, "a.png", (4, 4)), HOSTILE, HOSTILE)
    table = Table(HOSTILE, (Column(HOSTILE), Column("n")), (TableRow((HOSTILE, "1")),))
    section = Section(HOSTILE, (HOSTILE,), (table,), (HOSTILE,), (picture,), (Command(HOSTILE, HOSTILE),))
    whole = report(section, title=HOSTILE, lead=HOSTILE, facts={HOSTILE: HOSTILE})
    page = Reader(html(whole, tmp_path))
    assert not page.all("script")
    assert page.text.count(HOSTILE) == 14  # in 11 places; title, fact and command are shown in two forms each
    assert page.all("img")[0]["alt"] == HOSTILE
    text = markdown(whole)
    outside = re.sub(r"```+sh\n.*?\n```+", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<", outside)
    assert not re.search(r"(?<!\\)`", outside)
    assert "\\*bold\\*" in outside
    rows = [line for line in outside.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {3}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# no heading", "\\# no heading"),
        ("1. no list", "1\\. no list"),
        ("- no list", "\\- no list"),
        ("10.4 kimg", "10.4 kimg"),
    ],
)
def test_a_paragraph_stays_a_paragraph(text, shown):
    assert markdown(report(lead=text)).splitlines()[2] == shown


def test_a_command_with_backticks_gets_a_longer_fence():
    text = markdown(report(Section("S", commands=(Command("Run:", "echo ```"),))))
    assert "````sh\necho ```\n````" in text


def test_pictures_are_embedded_whole_and_nothing_else_is_loaded(tmp_path):
    light, dark = png(tmp_path, "light.png", (1800, 620)), png(tmp_path, "dark.png", (1800, 620))
    pictures = (Picture(light, "Caption.", "Alt", width=900, dark=dark),)
    text = html(report(Section("S", pictures=pictures)), tmp_path)
    page = Reader(text)
    (image,), (source,) = page.all("img"), page.all("source")
    for uri, name in ((image["src"], light), (source["srcset"], dark)):
        kind, _, code = uri.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(code, validate=True) == (tmp_path / name).read_bytes()
    assert (image["alt"], image["width"], image["height"]) == ("Alt", "900", "310")
    assert not page.all("link")
    assert not re.search(r"https?:|url\(|@import", text)


@pytest.mark.parametrize(
    ("width", "shown", "style"),
    [(100, 400, "pixels"), (300, 300, "pixels"), (700, 700, "pixels"), (1800, PAGE, "wide")],
)
def test_small_pictures_are_enlarged_by_whole_numbers_and_large_ones_fit_the_page(tmp_path, width, shown, style):
    picture = Picture(png(tmp_path, "a.png", (width, 10)), "c", "a")
    (image,) = Reader(html(report(Section("S", pictures=(picture,))), tmp_path)).all("img")
    assert (image["width"], image["class"]) == (str(shown), style)


def test_markdown_links_pictures_by_relative_paths():
    text = markdown(report(Section("S", pictures=(Picture("grids/my (1) #a.png", "c", "a"),))))
    assert "![a](grids/my%20%281%29%20%23a.png)" in text


def test_the_style_follows_the_reader_and_keeps_pixels_square(tmp_path):
    text = html(report(), tmp_path)
    assert "prefers-color-scheme: dark" in text
    assert "image-rendering: pixelated" in text
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert not re.search(r"\{[{%#]", text.partition("</style>")[2])


def test_a_failed_report_leaves_the_old_one_and_no_partial_file(tmp_path):
    write_report(report(lead="First."), tmp_path)
    with pytest.raises(FileNotFoundError):
        write_report(report(Section("S", pictures=(Picture("gone.png", "c", "a"),)), lead="Second."), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["REPORT.md", "report.html"]
    for name in ("REPORT.md", "report.html"):
        assert "First." in (tmp_path / name).read_text(encoding="utf-8")


def test_a_row_of_the_wrong_length_is_an_error():
    table = Table("FD", (Column("class"),), (TableRow(("bag", "1")),))
    with pytest.raises(ValueError, match="a row of table 'FD' must have 1 cells"):
        markdown(report(Section("S", tables=(table,))))
