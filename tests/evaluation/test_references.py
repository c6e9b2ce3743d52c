"""What scores stand beside: made once, kept by all that they depend on."""

import pytest
import tiny
from alone import Alone

from hmgan.data.named import open_data
from hmgan.evaluation import references
from hmgan.evaluation.judge import Judge
from hmgan.evaluation.references import ONE, OTHERS, SOURCE, THREE

METRICS = ("fd", "prdc", "spread", "leakage")


@pytest.fixture
def judge(shards, tmp_path) -> Judge:
    return Judge(open_data(str(shards)), "judge", tmp_path / "cache", Alone(), METRICS)


def values(rows, row: str, metric: str) -> dict[str, float]:
    return {score.cls: score.value for score in rows[row] if score.metric == f"{metric}-judge"}


def test_repeated_photographs_have_no_recall_and_the_source_no_class(judge, shards, source) -> None:
    rows = references.references(judge, open_data(str(shards)), str(source), 6, 0)
    assert list(rows) == [OTHERS, ONE, THREE, SOURCE]
    assert values(rows, ONE, "spread") == dict.fromkeys([*tiny.CLASSES, "mean"], 0)
    assert values(rows, ONE, "recall-k5")["mean"] == pytest.approx(1 / 12)  # each finds itself alone
    assert values(rows, ONE, "FD")["mean"] > values(rows, OTHERS, "FD")["mean"]
    # The same images for every class: each is taken for one class alone.
    assert values(rows, SOURCE, "class-kept")["mean"] == pytest.approx(1 / 3)
    # Against the scored images themselves, one half stands for the others.
    assert {s.n_real for s in rows[OTHERS] if s.cls == "ant"} == {6}
    assert {s.n_real for s in rows[SOURCE] if s.cls == "ant"} == {12}


def test_a_second_time_nothing_is_drawn_and_other_counts_are_no_hit(judge, shards, source, monkeypatch) -> None:
    first = references.references(judge, open_data(str(shards)), str(source), 6, 0)
    drawn = []
    monkeypatch.setattr(judge, "drawn", lambda fakes, label: drawn.append(fakes.seed) or [])
    assert references.references(judge, open_data(str(shards)), str(source), 6, 0) == first
    assert drawn == []
    references.references(judge, open_data(str(shards)), str(source), 6, 1)
    assert drawn == [1]


def test_what_is_not_there_leaves_its_rows_out(judge, shards, source) -> None:
    assert list(references.references(judge, None, str(source), 6, 0)) == [SOURCE]
    assert list(references.references(judge, open_data(str(shards)), None, 6, 0)) == [OTHERS, ONE, THREE]
