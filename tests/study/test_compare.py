"""`hmgan compare`: every cell once, whatever was done before, and a report of what is finished."""

from __future__ import annotations

import csv
import json
import shutil
import threading
import time

import pytest
import tiny
from safetensors.torch import load_file, save_file

from hmgan.study import cells, run, worker
from hmgan.study.plan import cells as planned
from hmgan.study.plan import load_study
from hmgan.study.progress import StudyProgress
from hmgan.study.tables import NONE

LABELS = ["insects/table/seed0", "insects/hyper/seed0", "insects/table/seed1", "insects/hyper/seed1"]


def compare(outdir, *arguments):
    return tiny.command("compare", "tiny", "--outdir", outdir, *arguments)


def finals(outdir, row, metric="FD-squeezenet"):
    """seed -> the last mean of a row."""
    values = {}
    for path in sorted((outdir / "cells" / "insects" / row).glob("seed*/train/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        means = [line for line in lines if (line["metric"], line["class"]) == (metric, "mean")]
        values[path.parts[-3]] = means[-1]["value"]
    return values


def test_a_report_holds_what_was_measured_beside_the_papers_numbers(finished, whole):
    text, page = (whole / "REPORT.md").read_text(), (whole / "report.html").read_text()
    assert all(f"{metric}-squeezenet " in text for metric in ("precision-k3", "recall-k5", "density-k5", "coverage-k5"))
    for row in ("table", "hyper"):
        values = list(finals(whole, row).values())
        mean = sum(values) / 2
        spread = abs(values[0] - values[1]) / 2**0.5
        shown = [line for line in text.splitlines() if line.startswith(f"| {row} | ")][1]
        got = shown.split(" | ")[1]
        assert [float(part.replace(",", "")) for part in got.split(" ± ")] == pytest.approx([mean, spread], rel=1e-2)
        assert f'<td class="n">{got}</td>' in page
    assert f"| other | {NONE} | {NONE} | 112.64 | {NONE} | {NONE} | {NONE} | {NONE} | {NONE} |" in text
    assert "61.84" in text
    assert "All of them are finished." in text
    assert f"hmgan compare tiny --outdir {finished['folder']}" in text
    names = {path.name for path in (whole / "pictures").iterdir()}
    assert names == {"insects-curves.png", "insects-curves-dark.png", "insects-reals.png",
                     "insects-table.png", "insects-hyper.png", "insects-hyper_parts.png",
                     "insects-table_between.png", "insects-hyper_between.png", "insects-hyper_styles.png"}  # fmt: skip
    assert all(name in text for name in names - {"insects-curves-dark.png"})


def test_a_longer_study_resumes_what_is_finished_and_ends_as_if_it_had_been_long_at_once(whole, study, in_process):
    outdir = whole.parent / "longer"
    study(("kimg = 0.016", "kimg = 0.008"))
    assert compare(outdir, "--seeds", "0") == 0
    assert finals(outdir, "hyper")["seed0"] != finals(whole, "hyper")["seed0"]
    study()
    assert compare(outdir, "--seeds", "0", "--report-only") == 0
    assert "0 of the 4 trainings are finished" in (outdir / "REPORT.md").read_text()
    assert compare(outdir, "--seeds", "0") == 0
    assert len(in_process) == 4
    for row in ("table", "hyper"):
        assert finals(outdir, row)["seed0"] == finals(whole, row)["seed0"]
    study(("kimg = 0.016", "kimg = 0.012"))
    assert compare(outdir, "--seeds", "0") == 2


def test_a_row_may_have_a_source_of_its_own(study, source, in_process, tmp_path):
    tiny.write_source(tmp_path / "own")
    state = tmp_path / "own" / "model.safetensors"
    own = f'name = "hyper"\nsource = "{tmp_path / "own"}"\n'
    save_file({name: value * 1.01 for name, value in load_file(state).items()}, state)
    study(('name = "hyper"\n', own))
    assert compare(tmp_path / "s", "--seeds", "0") == 0
    digests = [cells.read(tmp_path / "s" / "cells" / label / "inputs.json") for label in LABELS[:2]]
    assert digests[0]["images"] == digests[1]["images"]
    assert digests[0]["source"] != digests[1]["source"]


def test_every_score_is_in_the_csv(whole):
    with (whole / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    # 4 cells; 5 snapshots of 3 metrics and an end of 6 more; 3 classes and their mean.
    assert len(rows) == 4 * (5 * 3 + 6) * 4
    wanted = {"kimg": "0.016", "class": "mean", "metric": "FD-squeezenet", "row": "hyper"}
    last = [row for row in rows if wanted.items() <= row.items()]
    assert {f"seed{row['seed']}": float(row["value"]) for row in last} == finals(whole, "hyper")
    assert {row["generator_trained"] for row in last} == {str(cells.read(cell / "done.json")["trained"]["G"])
                                                          for cell in whole.glob("cells/insects/hyper/*")}  # fmt: skip


def test_what_is_finished_is_not_run_again(whole, in_process):
    before = {path: path.read_bytes() for path in whole.rglob("*.json*")}
    assert compare(whole) == 0
    assert in_process == []
    assert {path: path.read_bytes() for path in whole.rglob("*.json*")} == before


def test_a_study_without_its_weights_keeps_its_scores_and_is_gone_on_with(whole, in_process):
    before = finals(whole, "table"), finals(whole, "hyper")
    for trained in whole.glob("cells/*/*/*/train"):
        shutil.rmtree(trained / "snapshots")
        shutil.rmtree(trained / "checkpoints")
        for picture in trained.glob("*.png"):
            picture.unlink()
    shutil.rmtree(whole / "pictures")
    shutil.rmtree(whole / "cells" / LABELS[3])
    assert compare(whole) == 0
    assert in_process == [LABELS[3]]
    assert (finals(whole, "table"), finals(whole, "hyper")) == before
    assert "All of them are finished." in (whole / "REPORT.md").read_text()
    names = {path.name for path in (whole / "pictures").iterdir()}
    # Of the row that was trained again there is a snapshot, whichever its seed.
    assert names >= {"insects-curves.png", "insects-hyper_parts.png", "insects-hyper_between.png"}
    assert "insects-table_between.png" not in names


def test_a_metric_that_a_study_gains_is_scored_without_training_again(whole, study, in_process, capsys):
    study(('"prdc"]', '"prdc", "leakage"]'))
    cell = whole / "cells" / LABELS[0] / "train"
    stats, scores = (cell / "stats.jsonl").read_text(), (cell / "metrics.jsonl").read_text()
    assert compare(whole, "--dry-run", "--seeds", "0") == 0
    assert "without leakage" in capsys.readouterr().out
    assert compare(whole, "--report-only") == 0
    assert "All of them are finished." in (whole / "REPORT.md").read_text()  # trained; the new scores are missing
    assert compare(whole, "--seeds", "0") == 0
    assert in_process == LABELS[:2]
    assert (cell / "stats.jsonl").read_text() == stats
    assert (cell / "metrics.jsonl").read_text().startswith(scores)  # what was scored is not scored again
    gained = [json.loads(line) for line in (cell / "metrics.jsonl").read_text()[len(scores) :].splitlines()]
    assert {"class-kept-squeezenet", "style-kept-squeezenet"} <= {line["metric"] for line in gained}
    assert {line["kimg"] for line in gained} == {0.016}
    assert "class-kept-squeezenet" in (whole / "REPORT.md").read_text()
    in_process.clear()
    assert compare(whole, "--seeds", "0") == 0
    assert in_process == []


def test_a_judge_that_a_study_gains_scores_what_is_finished_without_training_again(whole, study, in_process, capsys):
    cell = whole / "cells" / LABELS[0] / "train"
    stats, scores = (cell / "stats.jsonl").read_text(), (cell / "metrics.jsonl").read_text()
    gains = ["--seeds", "0", "--set", "evaluation.extractor=squeezenet,judge"]
    assert compare(whole, *gains, "--dry-run") == 0
    assert "without judge" in capsys.readouterr().out
    assert compare(whole, *gains) == 0
    assert f"{LABELS[0]}: is scored" in capsys.readouterr().err
    assert in_process == LABELS[:2]
    assert (cell / "stats.jsonl").read_text() == stats
    assert (cell / "metrics.jsonl").read_text().startswith(scores)
    gained = [json.loads(line) for line in (cell / "metrics.jsonl").read_text()[len(scores) :].splitlines()]
    assert {line["extractor"] for line in gained} == {"judge"}
    assert {line["metric"].removesuffix("-judge") for line in gained} >= {"FD", "recall-k5"}
    assert "FD-judge" in (whole / "REPORT.md").read_text()
    study(('"prdc"]', '"prdc", "leakage"]'))
    assert compare(whole, *gains, "--dry-run") == 0
    assert "without leakage\n" in capsys.readouterr().out
    in_process.clear()
    assert compare(whole, *gains) == 0
    assert in_process == LABELS[:2]
    lines = [json.loads(line) for line in (cell / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["metric"] == "FD-judge" and line["class"] == "mean" for line in lines) == 1  # not scored again
    assert {"class-kept-squeezenet", "class-kept-judge"} <= {line["metric"] for line in lines}


def test_a_finished_cell_without_weights_that_would_gain_scores_says_so_and_loses_nothing(whole, in_process, capsys):
    cell = whole / "cells" / LABELS[0]
    shutil.rmtree(cell / "train" / "snapshots")
    shutil.rmtree(cell / "train" / "checkpoints")
    before = {name: (cell / name).read_bytes() for name in ("cell.json", "done.json", "train/metrics.jsonl")}
    gains = ["--seeds", "0", "--rows", "table", "--set", "evaluation.extractor=squeezenet,judge"]
    assert compare(whole, *gains) == 1
    assert "failed: no generator at" in capsys.readouterr().err
    assert {name: (cell / name).read_bytes() for name in before} == before
    assert compare(whole) == 0
    assert in_process == LABELS[:1]


def test_a_study_may_be_scored_at_its_end_alone_by_the_same_numbers(whole, study, in_process, tmp_path):
    study(("per_class = 8", 'per_class = 8\nscored = "end"'))
    assert compare(tmp_path / "s", "--seeds", "0", "--rows", "hyper") == 0
    path = tmp_path / "s" / "cells" / "insects" / "hyper" / "seed0" / "train" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["kimg"] for line in lines} == {0.016}
    assert finals(tmp_path / "s", "hyper")["seed0"] == finals(whole, "hyper")["seed0"]


def test_a_cell_whose_marker_is_missing_resumes_from_its_checkpoint(whole, in_process, monkeypatch):
    cell = whole / "cells" / "insects" / "hyper" / "seed0"
    lines = (cell / "train" / "stats.jsonl").read_text()
    (cell / "done.json").unlink()
    shutil.rmtree(cell / "train" / "checkpoints" / "000000004")
    before = finals(whole, "hyper")
    assert compare(whole) == 0
    assert in_process == ["insects/hyper/seed0"]
    assert "resumed" in (cell / "train" / "log.txt").read_text()
    again = (cell / "train" / "stats.jsonl").read_text()
    assert again.splitlines()[:3] == lines.splitlines()[:3]  # the first three steps were kept, not redone
    assert finals(whole, "hyper") == before


def test_other_settings_in_the_same_folder_are_refused_before_anything_runs(whole, in_process, capsys):
    assert compare(whole, "--set", "optimizer.lr=0.5") == 2
    cell = whole.absolute() / "cells" / LABELS[0]
    assert capsys.readouterr().err == (
        f"error: {cell} was begun with other settings: optimizer.lr was 0.002, now 0.5; "
        "give the same settings, another --outdir, or remove the folder\n"
    )
    assert in_process == []


def test_settings_of_the_machine_are_not_the_cells(whole, in_process):
    assert compare(whole, "--set", "compute.threads=2", "--set", "loader.workers=1") == 0
    assert in_process == []


def test_a_marker_of_another_configuration_is_refused(whole, capsys):
    kept = whole / "cells" / LABELS[0] / "cell.json"
    kept.write_text(kept.read_text().replace("A tiny", "A").replace('"cell"', '"label"'))
    assert compare(whole) == 2
    assert "done.json is not of the cell.json beside it; remove " in capsys.readouterr().err


def test_missing_cells_are_shown_as_missing(study, in_process, tmp_path, capsys):
    study()
    assert compare(tmp_path / "s", "--rows", "hyper", "--seeds", "1") == 0
    assert in_process == ["insects/hyper/seed1"]
    text = (tmp_path / "s" / "REPORT.md").read_text()
    assert "1 of the 4 trainings are finished; what is missing is shown as missing." in text
    assert "| table | missing | missing | 61.84 | 3.75 | missing | missing | missing | 0 of 2 |" in text
    assert f"| hyper over table | {NONE} | {NONE} | {NONE} | 0 | {NONE} | missing |" in text
    assert "| insects/table/seed0 | to do | 0 of 0.016 |  |" in text
    capsys.readouterr()
    assert compare(tmp_path / "s", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "4 cells: 3 to do, 1 done; dry run: nothing was trained or written" in said
    assert "insects/hyper/seed1  done   0.016 / 0.016" in said


def test_a_failed_cell_is_reported_and_the_rest_are_run(study, in_process, tmp_path, capsys, monkeypatch):
    study()
    train = worker.stage

    def stage(folder, name, experiment):
        if "table" in folder.parts:
            raise worker.UserError("the disk is full")
        return train(folder, name, experiment)

    monkeypatch.setattr(worker, "stage", stage)
    assert compare(tmp_path / "s", "--seeds", "0") == 1
    captured = capsys.readouterr()
    assert "failed: insects/table/seed0: the disk is full" in captured.out
    assert "insects/table/seed0: failed: the disk is full" in captured.err
    assert in_process == LABELS[:2]
    assert "| insects/table/seed0 | failed | 0 of 0.016 | the disk is full |" in (tmp_path / "s/REPORT.md").read_text()
    monkeypatch.setattr(worker, "stage", train)
    assert compare(tmp_path / "s", "--seeds", "0") == 0  # tried again, and the other one is not
    assert in_process == [*LABELS[:2], LABELS[0]]


def test_changed_images_are_never_mixed(whole, in_process, capsys):
    cell = whole / "cells" / LABELS[0]
    inputs = cell / "inputs.json"
    inputs.write_text(json.dumps({**json.loads(inputs.read_text()), "images": "others"}))
    assert compare(whole, "--report-only") == 2
    said = capsys.readouterr().err
    assert "was trained from another images than" in said
    (cell / "done.json").unlink()
    assert compare(whole) == 1
    assert "the images changed since" in capsys.readouterr().err


def test_rows_that_order_the_same_images_by_class_share_a_table(study, in_process, tmp_path):
    plain = 'experiment = "hyper-mod-b"\n'
    study((plain, plain + 'set = ["loader.stratified=true"]\n'))
    assert compare(tmp_path / "s", "--seeds", "0") == 0
    text = (tmp_path / "s/REPORT.md").read_text()
    assert in_process == LABELS[:2]
    assert all(f"| {row} | " in text for row in ("table", "hyper"))


def test_scores_of_two_protocols_never_share_a_table(whole, capsys):
    path = whole / "cells" / LABELS[2] / "train" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"n_fake": 8', '"n_fake": 9'))
    assert compare(whole, "--report-only") == 2
    assert "has a score of another FD-squeezenet of ant than" in capsys.readouterr().err


def test_a_later_evaluation_does_not_change_the_report(whole):
    before = (whole / "scores.csv").read_bytes()
    path = whole / "cells" / LABELS[2] / "train" / "metrics.jsonl"
    last = json.loads(path.read_text().splitlines()[-1])
    with path.open("a") as file:
        file.write(json.dumps({**last, "value": -1.0, "n_fake": 9}) + "\n")
    assert compare(whole, "--report-only") == 0
    assert (whole / "scores.csv").read_bytes() == before


def test_rows_may_start_from_random_or_from_self_aligned_heads(study, in_process, tmp_path):
    hyper = 'experiment = "hyper-mod-b"\n'
    aligned = f'{hyper}set = ["modulation.init=align"]\nalign_kimg = 0.008\n'
    random = f'name = "hyper"\n{hyper}set = ["modulation.init=random"]\n'
    study(('experiment = "gan-memory"\n', aligned), (f'name = "hyper"\n{hyper}', random))
    assert compare(tmp_path / "s", "--seeds", "0") == 0
    aligned, random = (tmp_path / "s" / "cells" / label for label in LABELS[:2])
    assert (aligned / "align" / "snapshots").is_dir()
    assert not (random / "align").exists()
    assert set(cells.read(aligned / "done.json")["minutes"]) == {"align", "train"}
    assert cells.read(aligned / "done.json")["minutes"]["align"] > 0
    text = (tmp_path / "s" / "REPORT.md").read_text()
    assert "0.016 (+0.008)" in text
    assert "modulation.init=align, self-alignment of 0.008 kimg first" in text
    scores = [(cell / "train" / "metrics.jsonl").read_text().splitlines()[3] for cell in (aligned, random)]
    assert json.loads(scores[0])["value"] != json.loads(scores[1])["value"]  # at kimg 0


def test_a_row_from_scratch_has_no_source_and_stands_in_the_same_report(study, in_process, tmp_path, capsys):
    scratch = (
        'experiment = "hyper-mod-s"\nset = ["backbone.resolution=8", "backbone.channels=[8, 8]", "backbone.z_dim=8", '
    )
    scratch += '"discriminator.resolution=8", "discriminator.channels=[8, 8]"]'
    study(('experiment = "gan-memory"', scratch))
    assert compare(tmp_path / "s", "--seeds", "0", "--dry-run") == 0
    assert "insects/table/seed0  to do" in capsys.readouterr().out
    assert compare(tmp_path / "s", "--seeds", "0") == 0
    cell = tmp_path / "s" / "cells" / LABELS[0]
    assert cells.read(cell / "inputs.json")["source"] is None
    assert len(cells.read(cell / "inputs.json")["images"]) == 64
    text = (tmp_path / "s" / "REPORT.md").read_text()
    assert "from scratch, without the source |" in text
    assert f"| {cells.read(cell / 'done.json')['trained']['G']:,} | 0.016 |" in text
    assert (tmp_path / "s" / "pictures" / "insects-table_between.png").is_file()
    capsys.readouterr()
    assert compare(tmp_path / "s", "--seeds", "0", "--dry-run") == 0
    assert "2 cells: 2 done" in capsys.readouterr().out


def test_two_at_once_run_every_cell_once(study, tmp_path, monkeypatch):
    study()
    wanted = planned(load_study("tiny"))
    started, gate = [], threading.Barrier(2)

    class Slow:
        """A cell that takes a moment, and trains nothing."""

        stdin, returncode = None, None

        def __init__(self, folder, output, environment):
            started.append("/".join(folder.parts[-3:]))
            self.folder, self.until = folder, time.monotonic() + 0.15

        def poll(self):
            if self.returncode is None and time.monotonic() > self.until:
                put_done(self.folder)
                self.returncode = 0
            return self.returncode

        def wait(self):
            return self.returncode

    def put_done(folder):
        (folder / "train").mkdir()
        line = {"kimg": 0.016, "metric": "FD-x", "class": "mean", "value": 1.0}
        (folder / "train" / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        cells.finish(folder, {"trained": {"G": 1, "D": 1}, "minutes": {"train": 1.0}, "kimg": 0.016, "align_kimg": 0.0})

    def go():
        gate.wait()
        with StudyProgress(wanted, tmp_path) as progress:
            assert run.run_all(progress, run.HERE, run.Limit()) == {}

    monkeypatch.setattr(run, "start", Slow)
    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(started) == sorted(LABELS)
    assert all(cells.is_done(cell.folder(tmp_path), cell) for cell in wanted)


def test_several_ranks_are_refused(study, tmp_path, monkeypatch, capsys):
    study()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert compare(tmp_path) == 2
    assert "hmgan compare runs one process per cell; start it once per GPU instead" in capsys.readouterr().err
