"""The registry's folders: every entry loads; a user's own take their place beside and before the package's."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from hmgan import components
from hmgan.config import entries
from hmgan.config.loading import load_experiment
from hmgan.data.named import held_out, open_data
from hmgan.errors import UserError
from hmgan.generators.source import load_source, source_folder

ALL = [(kind, name) for kind in entries.FOLDERS for name in entries.known(kind)]
ENTRIES = [(kind, name) for kind in entries.FOLDERS for name in entries.entries(kind)]


def refusal(call, *arguments):
    with pytest.raises(UserError) as caught:
        call(*arguments)
    return str(caught.value)


@pytest.fixture
def registry(tmp_path):
    """Writes an entry into a registry of the user's own."""
    folder = tmp_path / "registry"

    def write(kind, name, text):
        below = folder / entries.FOLDERS[kind]
        below.mkdir(parents=True, exist_ok=True)
        (below / f"{name}.toml").write_text(text)
        if folder not in entries._extra:
            entries.add(folder)
        return below / f"{name}.toml"

    return write


@pytest.mark.parametrize(("kind", "name"), ALL, ids=[f"{kind}-{name}" for kind, name in ALL])
def test_everything_known_has_a_summary(kind, name):
    assert entries.summaries(kind)[name]


@pytest.mark.parametrize(("kind", "name"), ENTRIES, ids=[f"{kind}-{name}" for kind, name in ENTRIES])
def test_every_entry_loads_and_says_where_it_is_from(kind, name):
    table = entries.entry(kind, name)
    assert table.get("provenance")
    if kind == "experiment":
        load_experiment(name)
    elif kind not in entries.DATA_ONLY:
        component, options = entries.component(kind, name, {})
        components.check(kind, component, options)


def test_every_embedded_set_that_an_entry_names_is_there():
    from hmgan.data.pack.embedded import embedded

    for name in entries.entries("dataset"):
        table = entries.entry("dataset", name)
        assert embedded(table["embedded"]).is_dir()
        assert held_out(name) in entries.entries("dataset")


def test_a_users_entry_stands_beside_the_packages(registry):
    registry("modulation", "gentle", 'summary = "Gentle"\ncomponent = "adafm"\n[options]\nepsilon = 0.1\n')
    assert "gentle" in entries.known("modulation")
    assert "adafm" in entries.known("modulation")
    chosen = load_experiment("hyper-mod-b", ["modulation=gentle"]).modulation
    assert chosen.model_dump() == {
        "name": "adafm",
        "init": "source",
        "epsilon": 0.1,
        "live": False,
        "largest": 500_000_000,
    }


def test_an_experiments_options_go_over_the_entrys(registry):
    registry("modulation", "gentle", 'component = "adafm"\n[options]\nepsilon = 0.1\ninit = "align"\n')
    chosen = load_experiment("hyper-mod-b", ["modulation.name=gentle", "modulation.epsilon=0.2"]).modulation
    assert chosen.model_dump() == {
        "name": "adafm",
        "init": "align",
        "epsilon": 0.2,
        "live": False,
        "largest": 500_000_000,
    }


def test_a_users_entry_takes_the_place_of_the_packages(registry):
    registry("experiment", "hyper-mod-c", 'summary = "Ours"\nextends = "hyper-mod-b"\n[train]\nkimg = 5\n')
    assert load_experiment("hyper-mod-c").train.kimg == 5


def test_the_registry_given_last_wins(tmp_path):
    for name in ("first", "second"):
        below = tmp_path / name / "experiments"
        below.mkdir(parents=True)
        (below / "mine.toml").write_text(f'summary = "{name}"\nextends = "hyper-mod-b"\n')
        entries.add(tmp_path / name)
    assert load_experiment("mine").summary == "second"


def test_a_folder_that_is_no_registry_is_refused(tmp_path):
    text = refusal(entries.add, tmp_path)
    assert text.startswith(f"--registry {tmp_path} has none of the folders tasks, backbones, discriminators, ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("modulation", 'componnt = "adafm"', "unknown key 'componnt'; did you mean 'component'? known: component, "),
        ("modulation", "options = 3", "options should be a valid dictionary, got 3"),
        ("dataset", 'emebdded = "digits"', "unknown key 'emebdded'; did you mean 'embedded'? known: embedded, "),
        ("dataset", 'embedded = "digits"\npad = "2"', "pad should be a valid integer, got '2'"),
        ("dataset", 'summary = "nothing"', "needs one of path, embedded and mix"),
        ("source", 'asset = "a"\npath = "b"', "needs one of path and asset"),
        ("modulation", "component = ", "is not valid TOML: "),
        ("experiment", "summary = ", "is not valid TOML: "),
    ],
)
def test_a_wrong_entry_names_its_file_and_the_mistake(kind, text, problem, registry):
    path = registry(kind, "mine", text)
    got = refusal(entries.entry, kind, "mine")
    assert got.startswith(f"{path}")
    assert problem in got
    assert "\n" not in got


def test_an_entry_of_an_unknown_component_names_the_nearest(registry):
    registry("modulation", "mine", 'component = "adafmm"')
    known = ", ".join(components.names("modulation"))
    expected = f"no modulation named 'adafmm'; did you mean 'adafm'? known: {known}"
    assert refusal(load_experiment, "hyper-mod-b", ["modulation=mine"]) == expected


def test_entries_lead_to_a_users_data_and_source_beside_them(registry, shards, source):
    registry("dataset", "insects", f'path = "{shards}"\nheldout = "other"')
    place = registry("source", "small", 'path = "../../networks/small"')
    tiny.write_source(place.parents[2] / "networks" / "small")
    assert open_data("insects").classes == tiny.CLASSES
    assert held_out("insects") == "other"
    assert load_source("small").digest == load_source(str(source)).digest


def test_a_wrong_data_set_or_source_shows_the_nearest(tmp_path):
    known = ", ".join(sorted(entries.entries("dataset")))
    assert refusal(open_data, "digit") == f"no dataset named 'digit'; did you mean 'digits'? known: {known}"
    assert refusal(source_folder, "fashion32").startswith("no source named 'fashion32'; did you mean 'fashion-32'?")
    expected = f"no source at {tmp_path}: config.json is not there; make one with hmgan pretrain or hmgan import"
    assert refusal(source_folder, str(tmp_path)) == expected
    assert refusal(open_data, None) == (
        "data is missing; give --data a folder that hmgan pack wrote, or a name of hmgan list datasets"
    )


def test_a_kind_is_known_by_both_its_names():
    assert entries.kind_named("class-net") == entries.kind_named("class-nets") == "class-net"
    assert refusal(entries.kind_named, "experimnts").startswith("no kind named 'experimnts'; did you mean 'exp")


def test_the_registry_is_found_as_package_data():
    for path in entries.entries("experiment").values():
        assert isinstance(path, Path)
        assert path.is_file()
