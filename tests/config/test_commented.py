"""What `hmgan show` prints reads back as the same experiment, fits a terminal and explains every setting."""

from __future__ import annotations

import re
import tomllib

import pytest

from hmgan.config import commented, entries
from hmgan.config.experiment import CHOICES, Experiment
from hmgan.config.loading import choose, load_experiment, resolve, to_table
from hmgan.errors import model_at

# `joined` is made by hmgan classes alone, of trained parts that have no defaults.
COMPONENTS = [(key, name) for key, kind in CHOICES.items() for name in entries.known(kind) if name != "joined"]


def settings():
    """Every key of an experiment, and of each of its tables that is no component's."""
    for key, field in Experiment.model_fields.items():
        yield key, key, field
        if key not in CHOICES and (table := model_at(Experiment, key)):
            yield from ((f"{key}.{inner}", inner, each) for inner, each in table.model_fields.items())


@pytest.mark.parametrize("name", sorted(entries.entries("experiment")))
def test_what_is_shown_of_an_experiment_reads_back_as_the_same(name: str) -> None:
    experiment = load_experiment(name)
    assert resolve(tomllib.loads(commented.commented(to_table(experiment)))) == experiment


@pytest.mark.parametrize(
    "overrides", [["data=['digits', 'digits']"], ["data.sources=['a', 'b']", "data.weights=[1, 2]"]]
)
def test_data_as_a_list_and_as_a_table_read_back_too(overrides: list[str]) -> None:
    experiment = load_experiment("hyper-mod-c", overrides)
    assert resolve(tomllib.loads(commented.commented(to_table(experiment)))) == experiment


@pytest.mark.parametrize(("key", "name"), COMPONENTS, ids=[f"{key}-{name}" for key, name in COMPONENTS])
def test_what_is_shown_of_a_component_is_a_table_that_chooses_it(key: str, name: str) -> None:
    choice = choose(CHOICES[key], name, {})
    table = tomllib.loads(commented.commented_choice(key, choice))
    for part in key.split("."):
        table = table[part]
    assert choose(CHOICES[key], table.pop("name"), table) == choice


@pytest.mark.parametrize(("path", "key", "field"), [pytest.param(*each, id=each[0]) for each in settings()])
def test_every_setting_has_a_sentence(path: str, key: str, field) -> None:
    assert commented._sentence(key, field)


def test_every_setting_is_shown_with_its_sentence_and_its_default() -> None:
    text = commented.commented(to_table(load_experiment("hyper-mod-c", ["train.batch=7"])))
    lines = re.sub(r"\n {28}#", "", text).splitlines()  # wrapped comments made whole
    for line in (
        "batch = 7                   # images per step over all ranks and microbatches (default 32)",
        "kimg = 1000.0               # thousands of real images shown (default)",
        "epsilon = 1e-05             # added to sigma, in units of the site's gain (default)",
        "[class_net]                 # from a label to the class vector v: `hmgan list class-nets`",
        "# augment = none            # what D sees all images through: `hmgan list augments` (default)",
    ):
        assert line in lines
    shown = {line.removeprefix("# ").split(" ")[0].strip("[]") for line in lines}
    assert set(Experiment.model_fields) <= shown


def test_lines_fit_eighty_columns_but_for_long_texts_of_the_entry() -> None:
    text = commented.commented(to_table(load_experiment("hyper-mod-c")))
    assert max(len(line) for line in text.splitlines()) <= commented.WIDTH


def test_a_value_that_is_a_table_stands_on_one_line() -> None:
    value = {"a": [1, 2.5], "b": {"c": "x\ny"}, "d": True}
    assert tomllib.loads(f"v = {commented._literal(value)}") == {"v": value}
