"""A generator that draws one image is found out at its first snapshot, in every place that is looked at."""

import json

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from hmgan.evaluation import collapse
from hmgan.evaluation.references import LINES, ONE, read
from hmgan.report.scores import collapse_section, recorded_scores
from hmgan.train.prepare import prepare
from hmgan.train.run import run_training


def blind(source, folder):
    """The tiny source with neither style nor noise: every z gives the same image."""
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    unvaried = {k: torch.zeros_like(w) if "noise" in k or "style.weight" in k else w for k, w in weights.items()}
    save_file(unvaried, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def run(shards, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("collapse")
    settings = ("train.kimg=0.008", "train.snap=0.004", "train.tick=0.004", "optimizer.lr=1e-9")
    scored = ("evaluation.per_class=6", "evaluation.extractor=judge", 'train.trackers=["tensorboard"]')
    experiment = tiny.transfer(shards, blind(source, folder / "source"), *settings, *scored)
    (folder / "run").mkdir()
    run_training(prepare(experiment), folder / "run")
    return folder / "run"


def test_each_collapsed_class_is_warned_of_and_stays_in_the_status_line(run):
    log = (run / "log.txt").read_text()
    for cls in tiny.CLASSES:
        assert f"warning: class {cls} shows 0.00 of the real images' diversity, less than 0.5" in log
    assert log.count("collapsed: ant, bee, cat") >= 1


def test_of_many_collapsed_classes_the_lowest_are_named_and_the_others_counted():
    found = {f"{i:04d}": 0.4 - i / 10_000 for i in range(1000)}
    lines = collapse.warnings(found, 0.5)
    assert [line.split()[1] for line in lines[:-1]] == [f"{i:04d}" for i in range(999, 991, -1)]
    assert lines[-1].startswith("992 more classes show less than 0.5")


def test_its_spread_is_scored_and_tracked(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    spreads = [line["value"] for line in lines if line["metric"] == "spread-judge"]
    assert spreads
    assert max(spreads) < 0.01
    events = next(run.rglob("events.out.tfevents.*"))
    accumulator = EventAccumulator(str(events.parent))
    accumulator.Reload()
    assert accumulator.Scalars("collapsed/classes")[-1].value == 3


def test_the_report_names_the_classes_and_has_the_references(run):
    text = collapse_section(recorded_scores(run)[1], 0.5).text
    assert [line.split()[2] for line in text] == list(tiny.CLASSES)
    assert ONE in read(run / LINES)


def test_a_varied_generator_is_not_warned_of(run):
    _, after = recorded_scores(run)
    healthy = [score._replace(value=0.9) for score in after]
    assert not collapse_section(healthy, 0.5).text
