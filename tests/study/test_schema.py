"""A mistake in a study's file is one line that says where, what, and what to do."""

from __future__ import annotations

import pytest
import tiny

from hmgan.config import entries
from hmgan.errors import UserError
from hmgan.study.plan import cells, load_study


def refusal(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", entries.entries("study"))
def test_every_study_of_the_package_resolves_to_cells_of_equal_kimg(name):
    planned = cells(load_study(name))
    assert planned
    assert {cell.experiment.train.kimg for cell in planned} == {load_study(name).kimg}
    assert len({cell.label for cell in planned}) == len(planned)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("kimg = 0.016", "kimgs = 0.016", "kimg is missing"),
        ("[0, 1]", "[0, 0]", "two seeds are 0; each must be there once"),
        ('name = "hyper"', 'name = "table"', "two rows are 'table'; each must be there once"),
        ('worse = "table"', 'worse = "tabel"', "claim 'hyper over table': no row named 'tabel'; did you mean 'table'?"),
        ('styles = "hyper"', 'styles = "hypr"', "figures.styles: no row with an experiment named 'hypr'; did you mean"),
        ('"table", "hyper"', '"table", "other"', "figures.between: no row with an experiment named 'other'"),
        ('parts = "hyper"', 'part = "hyper"', "unknown key 'figures.part'; did you mean 'parts'?"),
        ("numbers.insects = {{ mFID = 45.28 }}", "numbers.insect = {{ mFID = 1.0 }}", "did you mean 'insects'?"),
        ('experiment = "gan-memory"', 'experimnt = "gan-memory"', "unknown key 'rows.0.experimnt'; did you mean 'exp"),
        ('name = "insects"', 'name = "in/sects"', "targets.0.name should"),
        (
            'experiment = "hyper-mod-b"',
            'experiment = "hyper-mod-b"\nset = ["train.kimg=8"]',
            "rows.1.set: a row cannot set train.kimg: it is the study's, the same for every row; set it there",
        ),
        (
            'experiment = "hyper-mod-b"',
            'experiment = "hyper-mod-b"\nset = ["evaluation.per_class=8"]',
            "a row cannot set evaluation.per_class",
        ),
    ],
)
def test_a_wrong_study_names_its_file_and_the_mistake(old, new, problem, study):
    folder = study((old.replace("{{", "{").replace("}}", "}"), new.replace("{{", "{").replace("}}", "}")))
    text = refusal(load_study, "tiny")
    assert text.startswith(f"{folder / 'studies' / 'tiny.toml'}: ")
    assert problem in text


def test_a_wrong_name_shows_the_nearest(study):
    study()
    assert refusal(load_study, "tinny").startswith("no study named 'tinny'; did you mean 'tiny'? known: ")
    tiny_study = load_study("tiny")
    assert refusal(cells, tiny_study, rows=["hypr"]) == "no row named 'hypr'; did you mean 'hyper'? known: hyper, table"
    assert refusal(cells, tiny_study, rows=["other"]) == (
        "row 'other' has no experiment, only the paper's numbers; run: table, hyper"
    )
    assert refusal(cells, tiny_study, targets=["birds"]) == "no target named 'birds'; known: insects"
    assert refusal(cells, tiny_study, seeds=[7]) == "--seeds names 7, the study has 0, 1; add it to the study's seeds"


def test_a_row_of_an_unknown_experiment_or_setting_names_the_row(study):
    study(('experiment = "hyper-mod-b"', 'experiment = "hyper-mod-d"'))
    assert refusal(cells, load_study("tiny")).startswith("row 'hyper': no experiment named 'hyper-mod-d'; did you mean")
    study(("train.batch=4", "train.bach=4"))
    assert refusal(cells, load_study("tiny")).startswith("row 'table': unknown key 'train.bach'; did you mean")


def test_an_unknown_metric_and_rows_without_classes_are_refused(study):
    study(('"prdc"', '"prdcc"'))
    assert refusal(cells, load_study("tiny")).startswith("no metric named 'prdcc'; did you mean 'prdc'?")
    study(('experiment = "hyper-mod-b"', 'experiment = "transfergan"'))
    assert refusal(cells, load_study("tiny")) == (
        "row 'hyper' trains without classes and row 'table' with them, so their scores cannot share a table; "
        "give them studies of their own"
    )


def test_a_figure_of_a_row_that_cannot_be_drawn_in_it_is_refused_before_anything_runs(study):
    study(('experiment = "hyper-mod-b"', 'experiment = "adain"'))
    assert refusal(cells, load_study("tiny")) == (
        "figures.parts takes weight edits apart, and row 'hyper' has modulation 'adain', which edits none; "
        "name a row with adafm"
    )
    unlabelled = [(f'experiment = "{name}"', 'experiment = "transfergan"') for name in ("gan-memory", "hyper-mod-b")]
    study(*unlabelled, ('parts = "hyper"\n', ""))
    assert refusal(cells, load_study("tiny")) == (
        "figures.between is drawn from a modulation, and row 'table' has none; name another"
    )


def test_a_row_may_have_some_of_the_studys_seeds(study, capsys):
    study(('experiment = "hyper-mod-b"', 'experiment = "hyper-mod-b"\nseeds = [1]'))
    tiny_study = load_study("tiny")
    labels = [cell.label for cell in cells(tiny_study)]
    assert labels == ["insects/table/seed0", "insects/table/seed1", "insects/hyper/seed1"]
    assert [cell.label for cell in cells(tiny_study, seeds=[0])] == ["insects/table/seed0"]
    assert refusal(cells, tiny_study, rows=["hyper"], seeds=[0]) == (
        "no chosen row has a seed of 0; `hmgan show` the study for each row's seeds"
    )
    assert tiny.command("compare", "tiny", "-n", "--outdir", "none") == 0
    assert "3 cells" in capsys.readouterr().out


def test_a_rows_seeds_are_among_the_studys_and_there_once(study):
    study(('experiment = "hyper-mod-b"', 'experiment = "hyper-mod-b"\nseeds = [0, 2]'))
    assert "row 'hyper' has seed 2, and the study has not; add it to the study's seeds" in refusal(load_study, "tiny")
    study(('experiment = "hyper-mod-b"', 'experiment = "hyper-mod-b"\nseeds = [1, 1]'))
    assert "two seeds are 1; each must be there once" in refusal(load_study, "tiny")


def test_a_row_from_scratch_has_nothing_to_align_to(study):
    study(('experiment = "gan-memory"', 'experiment = "hyper-mod-s"\nalign_kimg = 1.0'))
    assert refusal(cells, load_study("tiny")) == (
        "row 'table' trains from scratch, and there is no source to align to; leave out align_kimg"
    )


@pytest.mark.parametrize("path", ["data", "source", "train.seed", "evaluation.data"])
def test_what_the_targets_and_seeds_say_cannot_be_overridden(path, study):
    study()
    expected = f"--set {path} would be one for all cells; targets and seeds of the study say it"
    assert refusal(cells, load_study("tiny"), [f"{path}=1"]) == expected


def test_the_first_seed_of_everything_comes_first_and_the_commands_settings_go_over_the_studys(study):
    study()
    planned = cells(load_study("tiny"), ["optimizer.lr=0.5", "train.kimg=0.02"])
    labels = ["insects/table/seed0", "insects/hyper/seed0", "insects/table/seed1", "insects/hyper/seed1"]
    assert [cell.label for cell in planned] == labels
    assert [cell.experiment.train.seed for cell in planned] == [0, 0, 1, 1]
    assert {(c.experiment.optimizer.lr, c.experiment.train.kimg, c.experiment.train.batch) for c in planned} == {
        (0.5, 0.02, 4)
    }


def test_a_row_from_scratch_is_given_no_source(study):
    study(('experiment = "gan-memory"', 'experiment = "hyper-mod-s"'))
    sources = {cell.row: cell.experiment.source for cell in cells(load_study("tiny"))}
    assert sources["table"] is None
    assert sources["hyper"] is not None


def test_studies_are_listed_and_shown(study, capsys):
    study()
    assert tiny.command("list", "studies") == 0
    assert "Two methods on insects" in capsys.readouterr().out
    assert tiny.command("show", "tiny") == 0
    assert 'experiment = "hyper-mod-b"' in capsys.readouterr().out
