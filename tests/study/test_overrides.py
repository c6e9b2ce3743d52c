"""A study that is run with --set: its report says what its cells were trained and scored with."""

from __future__ import annotations

import pytest
import tiny


def reported(tmp_path, *settings):
    words = [word for setting in settings for word in ("--set", setting)]
    assert tiny.command("compare", "tiny", "--outdir", tmp_path / "study", *words) == 0
    return (tmp_path / "study" / "REPORT.md").read_text().replace("\\", "")


def test_the_report_has_the_length_and_the_count_that_the_cells_had(study, in_process, tmp_path):
    study()
    text = reported(tmp_path, "train.kimg=0.008", "evaluation.per_class=6", 'train.on_nonfinite="skip"')
    assert "each trained on 0.008 kimg (8 real images shown)" in text
    assert "0.008 kimg each" in text
    assert "6 fakes per class" in text
    assert "0.016 kimg" not in text
    given = 'train.kimg=0.008, evaluation.per_class=6, train.on_nonfinite="skip"'
    assert f"Over those and over the study's own, by --set: {given}." in text
    assert "--set train.kimg=0.008 --set evaluation.per_class=6 --set 'train.on_nonfinite=\"skip\"'" in text


def test_a_study_as_it_is_speaks_of_no_overrides(whole):
    text = (whole / "REPORT.md").read_text()
    assert "each trained on 0.016 kimg (16 real images shown)" in text
    assert "by --set" not in text


@pytest.mark.parametrize("count", [5, 0])
def test_fakes_that_are_too_few_by_an_override_are_refused_before_a_cell_runs(
    count, study, in_process, tmp_path, capsys
):
    study()
    words = ["--outdir", tmp_path / "study", "--set", f"evaluation.per_class={count}"]
    assert tiny.command("compare", "tiny", *words) == 2
    assert f"evaluation.per_class must be 6 or more for prdc, got {count}" in capsys.readouterr().err
    assert in_process == []
