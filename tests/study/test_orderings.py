"""Verdicts stand on distance, recall and class-kept together, and on made-up scores they are what was made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hmgan.study.orderings import TOGETHER, section, verdict_metrics
from hmgan.study.schema import Study
from hmgan.study.scores import Result

METRICS = {
    "FD-squeezenet": (1000, 800, 30),
    "recall-k5-squeezenet": (0.3, 0.5, 0.02),
    "class-kept-judge": (0.9, 0.9, 0.01),
}


def study(seeds: int) -> Study:
    return Study.model_validate(
        {
            "title": "T",
            "summary": "S",
            "kimg": 1,
            "per_class": 8,
            "seeds": list(range(seeds)),
            "targets": [{"name": "close", "data": "d", "source": "s"}],
            "rows": [{"name": name, "experiment": "hyper-mod-b"} for name in ("old", "new")],
            "claims": [{"name": "new over old", "better": "new", "worse": "old"}],
        }
    )


def results(seeds: int) -> list[Result]:
    random, found = np.random.default_rng(0), []
    for i, row in enumerate(("old", "new")):
        for seed in range(seeds):
            lines = tuple(
                {
                    "metric": metric,
                    "class": "mean",
                    "kimg": 1.0,
                    "value": values[i] + values[2] * random.standard_normal(),
                }
                for metric, values in METRICS.items()
            )
            found.append(Result("close", row, seed, Path("nowhere"), lines, {"minutes": {}}, ()))
    return found


def test_a_verdict_is_given_by_each_of_the_three_with_its_interval_and_a_sentence_says_so() -> None:
    made = section(study(8), results(8))
    assert TOGETHER in made.text
    (table,) = made.tables
    assert [column.title for column in table.columns] == ["ordering", "the paper", *METRICS]
    _, _, distance, recall, kept = table.rows[0].cells
    assert distance.startswith("holds (+")
    assert recall.startswith("holds (+")
    assert kept.startswith("no difference above ")
    assert int(kept.split("above ")[1].split("%")[0]) <= 3
    assert "within noise" not in " ".join(table.rows[0].cells)


def test_what_it_would_take_to_decide_is_said_for_every_score() -> None:
    notes = " ".join(section(study(8), results(8)).notes)
    for metric in METRICS:
        assert f"close, {metric}: seeds of one row deviate by" in notes
    assert "to find and" in notes
    assert "(14 degrees of freedom)" in notes


def test_one_seed_leaves_every_ordering_open() -> None:
    made = section(study(1), results(1))
    assert set(made.tables[0].rows[0].cells[2:]) == {"open: one seed"}
    assert len(made.notes) == 1


def test_a_study_without_recall_is_judged_by_what_it_has_and_reals_are_no_method() -> None:
    assert verdict_metrics(["KD-squeezenet"]) == ["KD-squeezenet"]
    chosen = verdict_metrics(
        ["FD-a", "KD-a", "recall-k3-a", "recall-k5-a", "class-kept-a", "class-kept-reals-a", "FD-b"]
    )
    assert chosen == ["FD-a", "recall-k5-a", "class-kept-a", "FD-b"]
