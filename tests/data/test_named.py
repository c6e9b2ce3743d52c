"""The images of an experiment: one set or several, in shares, and parts of them, by settings."""

from __future__ import annotations

import json

import pytest
import tiny

from hmgan.config import entries
from hmgan.config.loading import load_experiment, resolve, to_table
from hmgan.config.settings import Data
from hmgan.data.mixture import Mixture
from hmgan.data.named import open_images, scored_against
from hmgan.data.order import Order
from hmgan.data.pack.pack import pack
from hmgan.errors import UserError
from hmgan.train import rundir


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two sets of 36 and 12 images, of ants, bees and cats, and of bees and dogs."""
    folder = tmp_path_factory.mktemp("sets")
    tiny.write_images(folder / "many", 12)
    few = tiny.write_images(folder / "few", 6)
    (few / "ant").rename(few / "dog")
    for path in (few / "cat").iterdir():
        path.unlink()
    (few / "cat").rmdir()
    for name in ("many", "few"):
        pack(folder / name, folder / f"{name}-packed", shard_samples=16, name=name, report=lambda line: None)
    return str(folder / "many-packed"), str(folder / "few-packed")


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Writes a data set's entry into a registry of the user's own."""
    monkeypatch.setattr(entries, "_extra", [tmp_path])
    (tmp_path / "datasets").mkdir()

    def write(name: str, text: str) -> None:
        (tmp_path / f"datasets/{name}.toml").write_text(f'summary = "x"\n{text}')

    return write


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(*overrides: str, **extra) -> Data:
    data = load_experiment("hyper-mod-b", overrides, extra).data
    assert data is not None
    return data


def test_a_set_alone_is_itself_in_its_old_order(sets):
    images = open_images(Data(sources=[sets[0]]))
    order, wanted = images.order(seed=7), Order([16, 16, 4], seed=7)
    assert (images.classes, images.counts) == (tiny.CLASSES, (12, 12, 12))
    assert [order[c] for c in range(100)] == [wanted[c] for c in range(100)]


def test_a_name_a_list_and_a_table_are_read_and_written_back_as_short_as_they_can_be():
    assert load("data=x") == Data(sources=["x"])
    assert load('data=["x", "y"]', "data.weights=[2, 1]") == Data(sources=["x", "y"], weights=[2, 1])
    assert load("data.per_class=5", "data.balance=true").sources == ["fashion-close"]
    assert load("data.per_class=5", data={"sources": ["x"]}) == Data(sources=["x"], per_class=5)
    for told in ("x", ["x", "y"], {"sources": ["x"], "balance": True}, {"sources": ["x", "y"], "weights": [1.0, 2.0]}):
        experiment = resolve({**to_table(load_experiment("hyper-mod-b")), "data": told})
        assert to_table(experiment)["data"] == told
        assert resolve(to_table(experiment)) == experiment


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["data.clases=[1]"], "unknown key 'data.clases'; did you mean 'classes'?"),
        (["data.weights=[1]", 'data.sources=["a", "b"]'], "data: weights must be one for each source, got 1 for 2;"),
        (["data.weights=[0]"], "data.weights.0 should be greater than 0, got 0"),
        (["data.per_class=-1"], "data.per_class should be greater than or equal to 0, got -1"),
        (["data.balance=1"], "data.balance should be a valid boolean, got 1"),
        (["data.sources=[]"], "data.sources should "),
        (['data=["s3://me:hidden@b/x", "y"]'], "must hold no user, password or query"),
        (["data=https://h/x?token=hidden"], "must hold no user, password or query"),
        (["evaluation.data=s3://me:hidden@b/x"], "must hold no user, password or query"),
    ],
)
def test_mistakes_are_told_in_one_line_and_secrets_never(overrides, text):
    told = refusal(load, *overrides)
    assert text in told
    assert "hidden" not in told


def test_sets_of_other_classes_go_together_where_the_classes_are_named(sets):
    told = refusal(open_images, Data(sources=list(sets)))
    assert "the classes of data that is mixed must agree, got 'ant' in one of " in told
    assert "name all that are wanted in data.classes" in told
    images = open_images(Data(sources=list(sets), classes=["dog", "bee", "ant"]))
    assert (images.classes, images.counts, len(images)) == (("dog", "bee", "ant"), (6, 18, 12), 36)
    assert "no class 'cow' in " in refusal(open_images, Data(sources=list(sets), classes=["cow", "ant"]))
    assert "has none of the classes ant, cat; leave it out" in refusal(
        open_images, Data(sources=list(sets), classes=["ant", "cat"])
    )


def test_without_labels_any_sets_go_together(sets):
    images = open_images(Data(sources=list(sets), weights=[1, 3]), labelled=False)
    assert (images.classes, images.counts) == (("all",), (48,))
    order = images.order(seed=1)
    assert sum(order[c] >= 36 for c in range(400)) == 300


def test_classes_and_so_many_of_each_are_settings_of_one_set_and_of_several(sets):
    one = open_images(Data(sources=[sets[0]], classes=["cat", "ant"], per_class=4))
    assert (one.classes, one.counts) == (("cat", "ant"), (4, 4))
    both = open_images(Data(sources=list(sets), classes=["bee", "ant"], per_class=4, balance=True))
    assert (both.classes, both.counts) == (("bee", "ant"), (8, 4))
    assert "few-packed has 6 of 'bee'; lower it" in refusal(
        open_images, Data(sources=list(sets), classes=["bee"], per_class=7)
    )


def test_scores_are_against_all_images_of_the_classes_in_no_shares(sets):
    data = Data(sources=list(sets), weights=[1, 2], balance=True, classes=["bee", "ant"], per_class=4)
    assert scored_against(data) == Data(sources=list(sets), classes=["bee", "ant"])
    assert scored_against(data, sets[0]) == Data(sources=[sets[0]], classes=["bee", "ant"])
    assert scored_against(Data(sources=["digits"])) == Data(sources=["digits-heldout"])


def test_an_entry_of_the_registry_may_mix(sets, registry, tmp_path):
    (tmp_path / "datasets/local").symlink_to(sets[1])
    registry("both", f'[mix]\nsources = ["{sets[0]}", "local"]\nweights = [1, 2]\nclasses = ["bee"]\n')
    images = open_images(Data(sources=["both"]))
    assert isinstance(images, Mixture)
    assert (images.classes, images.counts) == (("bee",), (18,))
    assert len(open_images(scored_against(Data(sources=["both"])))) == 18
    assert "data set 'both' is a mixture, with settings of its own" in refusal(
        open_images, Data(sources=["both"], per_class=1)
    )
    registry("wrong", 'path = "x"\n[mix]\nsources = ["y"]\n')
    assert "needs one of path, embedded and mix" in refusal(open_images, Data(sources=["wrong"]))


def test_a_run_on_several_sets_keeps_what_it_was_trained_on(sets, source, tmp_path):
    given = ["--data", sets[0], "--data", sets[1], "--set", "data.weights=[1,3]", "--set", 'data.classes=["bee","ant"]']
    small = tiny.options(train__batch=4, train__kimg=0.008, train__snap=0.008, source=source, train__trackers="[]")
    assert tiny.command("train", "hyper-mod-b", "--outdir", tmp_path, *given, *small) == 0
    (run,) = tmp_path.iterdir()
    assert run.name.startswith("00000-hyper-mod-b-many-packed+few-packed-8-")
    assert json.loads((run / "config.json").read_text())["data"] == {
        "sources": list(sets), "weights": [1.0, 3.0], "classes": ["bee", "ant"],
    }  # fmt: skip
    assert rundir.read_config(run).data == Data(sources=list(sets), weights=[1, 3], classes=["bee", "ant"])
    assert tiny.command("evaluate", run, "--per-class", 4) == 0
    assert {json.loads(line)["n_real"] for line in (run / "metrics.jsonl").read_text().splitlines()} == {18, 12, 30}


def test_a_run_from_shards_without_an_index_says_on_resume_that_it_draws_others(sets, source, tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    for path in sorted((tmp_path / sets[0]).glob("*.tar")):
        (shards / path.name).symlink_to(path)
    given = ["--data", shards, "--set", "data.reader=webdataset", "--set", 'data.classes=["ant","bee","cat"]']
    small = tiny.options(train__batch=4, train__kimg=0.008, train__snap=0.008, source=source, train__trackers="[]")
    command = ("train", "hyper-mod-b", "--outdir", tmp_path / "runs", *given, *small)
    assert tiny.command(*command, "--dry-run") == 0
    assert tiny.command(*command, "--set", "loader.on_corrupt=skip") == 2
    assert tiny.command(*command, "--metrics", 4) == 2
    assert tiny.command(*command, "--workers", 9) == 2  # more than there are shards
    assert not (tmp_path / "runs").exists()
    assert tiny.command(*command) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "reals.png").is_file()
    assert tiny.command("train", "hyper-mod-b", "--resume", run, "--kimg", 0.012) == 0
    assert "cannot resume where it was" in (run / "log.txt").read_text()
