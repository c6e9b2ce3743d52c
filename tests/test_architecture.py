"""docs/architecture.md is of the code as it is: its picture, its rooms, its equations, and its task, which trains."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import tiny

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
NAMED = sorted(set(re.findall(r"`(hmgan/[\w/]+\.py):([\w.]+)`", TEXT)))


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_architecture", ROOT / "scripts" / "draw_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contract() -> list[list[str]]:
    """The storeys that `lint-imports` keeps, from the ground up."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["type"] == "layers"]
    return [sorted(layer.split(" | ")) for layer in reversed(layers)]


def rooms_of_the_table() -> dict[str, int]:
    """Room -> storey."""
    rows = re.findall(r"^\| (\d+) \| `hmgan/(\w+)(?:/|\.py)` \|", TEXT, re.MULTILINE)
    return {room: int(storey) for storey, room in rows}


def test_the_picture_is_of_the_imports_as_they_are(drawing, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    house = drawing.house(ROOT)
    assert not house.up
    assert house.storeys() == contract(), "pyproject.toml names other storeys than the imports have"
    assert drawing.drawn(house, "Now") == (ROOT / "docs" / "architecture.svg").read_text(), "draw it: make picture"


def test_a_circle_of_rooms_is_drawn_as_one_arrow_back_up(drawing):
    house = drawing.House(
        {"a": 0, "b": 2, "c": 0}, frozenset({("a", "b"), ("b", "c"), ("a", "c")}), frozenset({("c", "a")})
    )
    assert house.storeys() == [["c"], ["b"], ["a"]]
    assert house.bold() == {("a", "b"), ("b", "c")}
    assert "1 of them back up" in drawing.drawn(house, "Three rooms")


def test_the_table_has_every_room_on_its_storey():
    assert rooms_of_the_table() == {room: i + 1 for i, row in enumerate(contract()) for room in row}
    assert len(contract()) <= 12


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every class and function by its dotted name within the file."""

    def inside(node: ast.AST, above: tuple[str, ...]) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                yield ".".join((*above, child.name)), child
                yield from inside(child, (*above, child.name))

    return inside(tree, ())


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_what_the_index_names_is_there(file, name):
    assert name in dict(definitions(ast.parse((ROOT / file).read_text())))


def with_equations() -> set[tuple[str, str]]:
    """(file, name) of every docstring that names an equation; the name is empty for a module's own."""
    found = set()
    for path in sorted((ROOT / "hmgan").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for name, node in [("", tree), *definitions(tree)]:
            if re.search(r"\bEqs?\. \d", ast.get_docstring(node) or ""):
                found.add((str(path.relative_to(ROOT)), name))
    return found


def test_every_docstring_that_names_an_equation_is_in_the_index():
    files = {file for file, _ in NAMED}
    assert len(with_equations()) > 20
    assert {each for each in with_equations() if (each not in NAMED if each[1] else each[0] not in files)} == set()


def test_the_index_has_every_equation_of_the_paper():
    table = TEXT.split("## Equations")[1].split("Of the baselines")[0]
    numbers = re.findall(r"^\| (\d) \|", table, re.MULTILINE)
    assert sorted({int(number) for number in numbers}) == list(range(1, 10))


def test_the_glossary_is_sorted_and_says_each_word_once():
    words = re.findall(r"^\| \*\*([\w ,-]+)\*\* \|", TEXT, re.MULTILINE)
    assert len(words) >= 30
    assert words == sorted(set(words))


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> type:
    """The document's own task, registered for one test."""
    from hmgan import components

    monkeypatch.setattr(components, "_REGISTRY", dict(components._REGISTRY))
    (block,) = re.findall(r"```python\n# moments\.py\n(.*?)```", TEXT, re.DOTALL)
    module = ModuleType("moments")
    exec(compile(block, "moments.py", "exec", dont_inherit=True), module.__dict__)
    monkeypatch.setitem(sys.modules, "moments", module)
    yield module.MomentMatching
    components.schema.cache_clear()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_documents_task_trains_without_a_discriminator_and_its_loss_falls(
    accumulate, moments, shards, source, tmp_path
):
    overrides = ["task=moment-matching", "train.batch=12", f"train.accumulate={accumulate}", "optimizer.lr=0.02"]
    trainer = tiny.make_trainer(tiny.transfer(shards, source, *overrides), tmp_path)
    assert isinstance(trainer.task, moments)
    assert not any("disc" in name for name in trainer.task.kept())
    batches, losses = trainer.batches(), []
    for _ in range(24):
        losses.append(trainer.take_step(next(batches))["loss/moments"].item())
        trainer.step += 1
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


def test_the_documents_experiment_is_an_entry(moments, shards, source, tmp_path):
    from hmgan.config import entries
    from hmgan.config.loading import load_experiment

    (tmp_path / "experiments").mkdir()
    (block,) = re.findall(r"```toml\n(.*?moment-matching.*?)```", TEXT, re.DOTALL)
    (tmp_path / "experiments" / "moments.toml").write_text(block)
    entries.add(tmp_path)
    loaded = load_experiment("moments", [f"data={shards}", f"source={source}"])
    assert loaded.task.model_dump() == {"name": "moment-matching"}
