"""Experiments: TOML, one level of extends, overrides; a mistake at any level is one exact line."""

from __future__ import annotations

import json

import pytest

from hmgan.config import entries
from hmgan.config.experiment import Experiment
from hmgan.config.loading import load_experiment, parse_override, read_experiment, resolve, to_table
from hmgan.config.settings import Train
from hmgan.errors import UserError

MODULATIONS = ", ".join(entries.known("modulation"))
TOP = ", ".join(sorted(Experiment.model_fields))
TRAIN = ", ".join(sorted(Train.model_fields))


def refusal(*overrides, name="hyper-mod-b"):
    with pytest.raises(UserError) as caught:
        load_experiment(name, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        # names
        ("modulation=adfm", f"no modulation named 'adfm'; did you mean 'adafm'? known: {MODULATIONS}"),
        ("class_net.name=mpl", "no class-net named 'mpl'; did you mean 'mlp'? known: embedding, mlp, one-hot"),
        (
            "adversarial=hinges",
            "no adversarial named 'hinges'; did you mean 'hinge'? known: dual-contrastive, hinge, logistic",
        ),
        ("regularizer=lecan", "no regularizer named 'lecan'; did you mean 'lecam'? known: lecam"),
        (
            "disc_head=ac",
            "no disc-head named 'ac'; did you mean 'adc'? known: adc, auxiliary-classifier, logit-per-class, "
            "mapped-projection, projection, transitional",
        ),
        ("augment=ad", "no augment named 'ad'; did you mean 'ada'? known: ada, diffaugment"),
        (
            'disc_head={name="auxiliary-classifier",class_weight=-1.0}',
            "disc_head.class_weight should be greater than or equal to 0, got -1.0",
        ),
        # keys
        ("trian.kimg=3", f"unknown key 'trian'; did you mean 'train'? known: {TOP}"),
        ("train.kimgs=3", f"unknown key 'train.kimgs'; did you mean 'kimg'? known: {TRAIN}"),
        ("r1.gama=1", "unknown key 'r1.gama'; did you mean 'gamma'? known: every, gamma"),
        (
            "modulation.inot=source",
            "unknown key 'modulation.inot'; did you mean 'init'? known: epsilon, init, largest, live",
        ),
        # types
        ("train.kimg=many", "train.kimg should be a valid number, got 'many'"),
        ("train.kimg=none", "train.kimg should be a valid number, got None"),
        ("train.batch=1.5", "train.batch should be a valid integer, got 1.5"),
        ("loader.mirror=1", "loader.mirror should be a valid boolean, got 1"),
        ("task.freeze=[1]", "task.freeze.0 should be a valid string, got 1"),
        ("data=3", "data should be a valid dictionary or instance of Data, got 3"),
        ("train=3", "train should be a valid dictionary or instance of Train, got 3"),
        ("modulation.epsilon=small", "modulation.epsilon should be a valid number, got 'small'"),
        ("discriminator.name=3", "discriminator.name should be a valid string, got 3"),
        # values
        ("train.kimg=-1", "train.kimg should be greater than 0, got -1"),
        ("train.kimg=inf", "train.kimg should be a finite number, got inf"),
        ("task.mixing=1.5", "task.mixing should be less than or equal to 1, got 1.5"),
        ("r1.every=-1", "r1.every should be greater than or equal to 0, got -1"),
        ("r1.gamma=atuo", "r1.gamma should be a valid number or 'auto', got 'atuo'; did you mean 'auto'?"),
        ("r1.gamma=-1", 'r1.gamma: gamma must be 0 or more, or "auto", got -1.0'),
        ("ema.kimg=x", "ema.kimg should be a valid number or 'auto', got 'x'"),
        ("ema.kimg=0", 'ema.kimg: kimg must be more than 0, or "auto", got 0.0'),
        ("task=alignmen", "no task named 'alignmen'; did you mean 'alignment'? known: alignment, gan, reconstruction"),
        (
            "modulation.init=sorce",
            "modulation.init should be 'source', 'align' or 'random', got 'sorce'; did you mean 'source'?",
        ),
        (
            "evaluation.per_class=1",
            "evaluation.per_class: per_class must be 0, which computes no scores, or at least 2, got 1",
        ),
        # what is missing
        (
            "source=none",
            "source is missing: a transfer starts from a source, a pretraining from a backbone and a discriminator; "
            "name it in the experiment or with --set",
        ),
        # what has moved
        (
            "task=pretrain",
            "no task named 'pretrain': an experiment with a backbone of its own is a pretraining; leave task out",
        ),
        ("train.contrastive_weight=1.0", "train.contrastive_weight is contrastive.weight now; write that in its place"),
        ("mining.kimg=1.0", 'mining is players now with players.name = "mining"; write that in its place'),
        (
            "contrastive.off_diagonal=1",
            "contrastive.name is missing; set it, for example --set contrastive.name=...",
        ),
        # the override itself
        ("train.kimg", "--set wants a.b=c, got 'train.kimg'"),
        ("=3", "--set wants a.b=c, got '=3'"),
        ("train..kimg=3", "--set wants a.b=c, got 'train..kimg=3'"),
    ],
)
def test_a_wrong_override_is_one_line(override, text):
    assert refusal(override) == text


def test_training_from_scratch_refuses_a_source():
    wanted = "the experiment is for hmgan pretrain, which starts from no source, got 'mine'; leave it out"
    assert refusal("source=mine", name="hyper-mod-s") == wanted


def test_a_wrong_experiment_shows_the_nearest():
    assert refusal(name="hyper-mod-bb").startswith("no experiment named 'hyper-mod-bb'; did you mean 'hyper-mod-b'? kn")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("3.5", 3.5),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"none"', "none"),
        ("none", None),
        ("none-of-it", "none-of-it"),
        ("a/folder", "a/folder"),
        ("x=y", "x=y"),
        ("", ""),
        ("{width = 4}", {"width": 4}),
    ],
)
def test_an_override_is_toml_or_a_bare_string(text, value):
    assert parse_override(f"a.b={text}") == {"a": {"b": value}}


def test_overrides_apply_in_order_and_the_options_of_the_command_line_last():
    loaded = load_experiment("hyper-mod-b", ["train.kimg=1", "train.kimg=2", "train.seed=5"], {"train": {"seed": 6}})
    assert (loaded.train.kimg, loaded.train.seed) == (2, 6)
    assert loaded.train.batch == 16  # of the entry: its other settings stay


def test_none_takes_a_part_away():
    assert load_experiment("hyper-mod-c").contrastive is not None
    assert load_experiment("hyper-mod-c", ["contrastive=none"]).contrastive is None


def test_an_override_of_an_option_keeps_the_component_and_its_other_options():
    loaded = load_experiment("hyper-mod-c-align", ["modulation.epsilon=0.5"])
    assert loaded.modulation.model_dump() == {
        "name": "adafm",
        "init": "align",
        "epsilon": 0.5,
        "live": False,
        "largest": 500_000_000,
    }


def test_another_component_begins_from_its_own_options():
    loaded = load_experiment("hyper-mod-c-align", ["modulation.name=adain"])
    assert loaded.modulation.model_dump() == {"name": "adain", "init": "source"}


@pytest.fixture
def write(tmp_path):
    """Writes experiments into a registry of the user's."""
    registry = tmp_path / "registry"
    (registry / "experiments").mkdir(parents=True)
    entries.add(registry)

    def write(name, text):
        (registry / "experiments" / f"{name}.toml").write_text(text)

    return write


def test_an_experiment_extends_another_and_changes_what_it_says(write):
    write("mine", 'summary = "Mine"\nextends = "hyper-mod-b"\nclass_net = "one-hot"\n[train]\nkimg = 7\n')
    mine, base = load_experiment("mine"), load_experiment("hyper-mod-b")
    assert (mine.summary, mine.class_net.name, mine.train.kimg) == ("Mine", "one-hot", 7)
    assert mine.train.batch == base.train.batch == 16
    changed = {"summary": "", "class_net": None, "train": None}
    assert mine.model_copy(update=changed) == base.model_copy(update=changed)


def test_extending_reaches_one_level_only(write):
    write("mine", 'summary = "Mine"\nextends = "hyper-mod-c"\n')
    text = "experiment 'mine' extends 'hyper-mod-c', which extends another; one level is the limit"
    assert refusal(name="mine") == text


@pytest.mark.parametrize("value", ["false", "7", "[]", '["hyper-mod-b"]', '{name = "hyper-mod-b"}'])
def test_what_an_experiment_extends_is_a_name(write, value):
    write("mine", f'summary = "Mine"\nextends = {value}\n')
    with pytest.raises(UserError, match="extends of experiment 'mine' must be a name in quotes, got"):
        load_experiment("mine")


def test_extending_what_is_not_there_names_the_nearest(write):
    write("mine", 'summary = "Mine"\nextends = "hyper-mod-d"\n')
    assert refusal(name="mine").startswith("no experiment named 'hyper-mod-d'; did you mean 'hyper-mod-")


@pytest.mark.parametrize("name", entries.entries("experiment"))
def test_every_experiment_resolves_and_its_table_resolves_to_itself(name, tmp_path):
    experiment = load_experiment(name)
    table = to_table(experiment)
    assert resolve(json.loads(json.dumps(table))) == experiment
    (tmp_path / "config.json").write_text(json.dumps(table))
    assert read_experiment(tmp_path / "config.json") == experiment
    assert experiment.summary
    assert experiment.provenance


@pytest.mark.parametrize("name", entries.entries("experiment"))
def test_the_head_of_every_experiment_says_how_to_run_it(name):
    first = entries.entries("experiment")[name].read_text().splitlines()[0]
    assert first.startswith("# hmgan ")
    assert name in first


@pytest.mark.parametrize("text", ["{", "[]", '{"summary": 3}'])
def test_a_damaged_run_configuration_is_a_clear_error(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError) as caught:
        read_experiment(tmp_path / "config.json")
    assert "\n" not in str(caught.value)


def test_options_that_come_before_their_components_name_are_kept():
    for overrides in (["augment.kimg=100.0", "augment.name=ada"], ["augment.name=ada", "augment.kimg=100.0"]):
        assert load_experiment("hyper-mod-b", overrides).augment.options["kimg"] == 100
    kept = load_experiment("hyper-mod-b", ["augment.kimg=100.0"], {"augment": {"name": "ada"}}).augment
    assert kept.options["kimg"] == 100
