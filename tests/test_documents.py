"""What the documents name exists: paths, modules, settings, commands, links; and what they copy is the same."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import yaml
from typer.main import get_command

import hmgan
from hmgan import components
from hmgan.cli.app import app
from hmgan.config.experiment import CHOICES, Choice, Experiment
from hmgan.config.moved import MOVED, NAMED
from hmgan.errors import model_at

ROOT = Path(__file__).parents[1]
# CHANGELOG.md names what is no more.
DOCS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "launch" / "README.md", *ROOT.glob("docs/*.md")]
)


@cache
def text(doc: str) -> str:
    return (ROOT / doc).read_text()


def every(pattern: str) -> list[tuple[str, str]]:
    """(document, match) wherever a document has it."""
    found = {(doc, match) for doc in DOCS for match in re.findall(pattern, text(doc), re.MULTILINE)}
    assert found
    return sorted(found)


def shown(doc: str) -> list[str]:
    """The commands in a document's blocks of code, and between backticks."""
    blocks = re.findall(r"^```\n(.*?)^```$", text(doc), re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", text(doc), flags=re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in [*lines, *re.findall(r"`([^`\n]+)`", prose)] if re.match(r"hmgan [a-z-]", line)]


PATHS = every(r"(?<![\w/.~:-])((?:hmgan|scripts|docs|tests|registry|launch|\.ci)/[\w./-]*\w)")
MODULES = every(r"(?<![\w/.@-])(hmgan\.[a-z_]\w*(?:\.\w+)*)")
LINKS = every(r"\]\((?!https?://)([^)#]+)(?:#[^)]*)?\)")
COMMANDS = sorted({(doc, line) for doc in DOCS for line in shown(doc)})
SETTINGS = every(r"(?:--set |`)([a-z][a-z0-9_]*\.[a-z][a-z0-9_.]*)(?=[ =`\n])(?<!\.safetensors)")


@pytest.mark.parametrize(("doc", "path"), PATHS)
def test_every_path_that_a_document_names_is_there(doc, path):
    assert (ROOT / path).exists() or (ROOT / doc).parent.joinpath(path).exists()


@pytest.mark.parametrize(("doc", "name"), MODULES)
def test_every_module_or_name_of_the_package_that_a_document_names_is_there(doc, name):
    assert resolve_name(name) is not None


@pytest.mark.parametrize(("doc", "link"), LINKS)
def test_every_link_of_a_document_leads_somewhere(doc, link):
    assert (ROOT / doc).parent.joinpath(link).exists()


@cache
def verbs() -> Any:
    return get_command(app)


@pytest.mark.parametrize(("doc", "line"), COMMANDS)
def test_every_command_that_a_document_shows_exists(doc, line):
    words = [word for word in shlex.split(line, comments=True) if not word.startswith(("-", "["))][1:]
    if "--registry" in line:
        words = words[1:]  # its folder
    command = verbs()
    while words and hasattr(command, "commands"):
        for name in words.pop(0).rstrip(",").split(","):
            assert name in command.commands
        command = command.commands[name]


def is_setting(path: str) -> bool:
    """Whether an experiment, or a component that it may name, has it."""
    table, _, key = path.rpartition(".")
    model = Experiment
    for part in table.split("."):
        model = model_at(model, part)
    if model is not None and model is not Choice and key in model.model_fields:
        return True
    kind = CHOICES.get(table)
    return kind is not None and any(key in components.schema(kind, n).model_fields for n in components.names(kind))


@pytest.mark.parametrize(
    ("doc", "path"), [each for each in SETTINGS if each[1].split(".")[0] in Experiment.model_fields]
)
def test_every_setting_that_a_document_names_exists(doc, path):
    # A component of the reader's own, which README.md shows.
    assert is_setting(path) or path == "contrastive.margin"


def test_a_setting_that_is_not_there_is_found_out():
    assert is_setting("compute.engine")
    assert is_setting("contrastive.weight")
    assert not is_setting("train.precision")
    assert not is_setting("contrastive.width")


def test_the_changelog_has_every_setting_that_moved():
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.*) \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert rows == {old: f"`{new}`, named `{NAMED[old]}`" if old in NAMED else f"`{new}`" for old, new in MOVED.items()}


def test_the_citation_is_of_this_version_and_licence():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["version"] == hmgan.__version__
    assert cited["license"] == project["license"]
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]
    assert cited["preferred-citation"]["title"] in re.sub(r"\s+", " ", text("README.md"))


def test_the_wheels_description_links_to_the_repository_and_changes_nothing_else():
    absolute = runpy.run_path(str(ROOT / "setup.py"))["absolute"]
    readme = text("README.md")
    there = absolute(readme, "https://host.example/us/hmgan/")
    assert "(https://host.example/us/hmgan/raw/HEAD/docs/demo-after.png)" in there
    assert "(https://host.example/us/hmgan/blob/HEAD/docs/data.md)" in there
    assert not re.findall(r"\]\((?!https?://|#)", there)
    assert re.sub(r"https://host\.example/us/hmgan/(raw|blob)/HEAD/", "", there) == readme


def test_hooks_before_a_commit_are_what_make_checks():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]]
    checks = re.findall(r"^\t\$\(BIN\)/(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    made = {" ".join(word for word in check.split() if word not in (".", "--check")) for check in checks}
    assert {entry.removesuffix(" --force-exclude") for entry in entries} <= made
    assert {hook["language"] for hook in local["hooks"]} == {"system"}
